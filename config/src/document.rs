//! Files that people write: TOML, read key by key, with errors that give file, line and remedy.

use std::{borrow::Cow, fmt, ops::RangeInclusive};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::policy::Problem;

/// What is wrong in a file that people write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError {
    /// Name of the file.
    pub file: String,
    /// Line, from 1; 0 for the file as a whole.
    pub line: usize,
    /// Column in characters, from 1; 0 where the line says enough.
    pub column: usize,
    /// What is wrong, and what to do.
    pub problem: String,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (0, _) => write!(f, "{}: {}", self.file, self.problem),
            (line, 0) => write!(f, "{}, line {line}: {}", self.file, self.problem),
            (line, column) => write!(f, "{}, line {line}, column {column}: {}", self.file, self.problem),
        }
    }
}

impl std::error::Error for FileError {}

impl FileError {
    /// The first of the problems of a file of policies or cases, and how many more there are.
    pub(crate) fn of_problems(file: &str, problems: &[Problem]) -> Self {
        let Some(first) = problems.first() else { return whole(file, "it cannot be read".to_owned()) };
        let bare = Problem { line: 0, column: 0, ..first.clone() };
        let more = match problems.len() {
            0 | 1 => String::new(),
            all => format!(" (and {} more; `lintas policy check` tells them all)", all - 1),
        };
        let problem = format!("{bare}{more}");
        Self { file: file.to_owned(), line: first.line, column: first.column, problem }
    }
}

/// A file that is wrong as a whole.
pub(crate) fn whole(file: &str, problem: String) -> FileError {
    FileError { file: file.to_owned(), line: 0, column: 0, problem }
}

/// A parsed file.
pub(crate) struct Document<'t> {
    place: Place<'t>,
    root: Spanned<DeTable<'t>>,
}

/// Where an error is.
#[derive(Clone, Copy)]
struct Place<'t> {
    file: &'t str,
    text: &'t str,
}

impl Place<'_> {
    fn error(&self, offset: usize, problem: String) -> FileError {
        FileError { file: self.file.to_owned(), line: self.line(offset), column: 0, problem }
    }

    fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().get(..offset).unwrap_or_default();
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }
}

impl<'t> Document<'t> {
    /// Parses `text`, which stands in `file`.
    pub(crate) fn parse(file: &'t str, text: &'t str) -> Result<Self, FileError> {
        let place = Place { file, text };
        let root = DeTable::parse(text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            place.error(offset, format!("not TOML: {}", error.message()))
        })?;
        Ok(Self { place, root })
    }

    /// The keys at the top, which must be among `known`.
    pub(crate) fn top(&self, known: &[&str]) -> Result<Section<'_>, FileError> {
        Section::new(self.place, self.root.get_ref(), 0, known)
    }
}

/// A table whose keys are all known.
pub(crate) struct Section<'d> {
    place: Place<'d>,
    entries: &'d DeTable<'d>,
    offset: usize,
}

impl<'d> Section<'d> {
    fn new(
        place: Place<'d>,
        entries: &'d DeTable<'d>,
        offset: usize,
        known: &[&str],
    ) -> Result<Self, FileError> {
        let unknown = entries.keys().find(|key| !known.contains(&key.get_ref().as_ref()));
        if let Some(key) = unknown {
            let problem = format!("there is no key {}", unlisted(key.get_ref(), known));
            return Err(place.error(key.span().start, problem));
        }
        Ok(Self { place, entries, offset })
    }

    /// The value of `key`, if it is there.
    pub(crate) fn get(&self, key: &'static str) -> Option<Entry<'d>> {
        let found = self.entries.iter().find(|(name, _)| name.get_ref() == key);
        found.map(|(_, value)| Entry { place: self.place, key, value })
    }

    /// The value of `key`, which must be there; `such_as` shows one.
    pub(crate) fn need(&self, key: &'static str, such_as: &str) -> Result<Entry<'d>, FileError> {
        self.get(key).ok_or_else(|| self.wrong(format!("`{key}` is missing; add it, e.g. {key} = {such_as}")))
    }

    /// The tables `[[key]]`.
    pub(crate) fn sections(&self, key: &'static str, known: &[&str]) -> Result<Vec<Section<'d>>, FileError> {
        let Some(entry) = self.get(key) else { return Ok(Vec::new()) };
        let wrong = || entry.wrong(format!("must be tables, each under a line `[[{key}]]`"));
        let list = entry.value.get_ref().as_array().ok_or_else(wrong)?;
        let section = |value: &'d Spanned<DeValue<'d>>| {
            let table = value.get_ref().as_table().ok_or_else(wrong)?;
            Section::new(self.place, table, value.span().start, known)
        };
        list.iter().map(section).collect()
    }

    /// Line on which it begins.
    pub(crate) fn line(&self) -> usize {
        self.place.line(self.offset)
    }

    /// The table `[key]`, if it is there.
    pub(crate) fn section(
        &self,
        key: &'static str,
        known: &[&str],
    ) -> Result<Option<Section<'d>>, FileError> {
        let Some(entry) = self.get(key) else { return Ok(None) };
        let table = entry.value.get_ref().as_table();
        let table = table.ok_or_else(|| entry.wrong(format!("must be a table, under a line `[{key}]`")))?;
        Section::new(self.place, table, entry.value.span().start, known).map(Some)
    }

    pub(crate) fn wrong(&self, problem: String) -> FileError {
        self.place.error(self.offset, problem)
    }
}

/// One value.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'d> {
    place: Place<'d>,
    key: &'d str,
    value: &'d Spanned<DeValue<'d>>,
}

/// A key that the writer of a file chooses.
#[derive(Clone, Copy)]
pub(crate) struct Chosen<'d> {
    place: Place<'d>,
    key: &'d str,
    offset: usize,
}

impl<'d> Chosen<'d> {
    /// The key, if `check` accepts it; its error continues the sentence.
    pub(crate) fn text<T, E: fmt::Display>(
        &self,
        check: impl FnOnce(&'d str) -> Result<T, E>,
    ) -> Result<T, FileError> {
        let wrong = |error| self.place.error(self.offset, format!("the name `{}` {error}", cut(self.key)));
        check(self.key).map_err(wrong)
    }
}

impl<'d> Entry<'d> {
    /// An error at this value's line; `must` continues a sentence that begins with the key.
    pub(crate) fn wrong(&self, must: impl fmt::Display) -> FileError {
        let (key, span) = (self.key, self.value.span());
        let shown = match self.value.get_ref() {
            DeValue::Array(_) | DeValue::Table(_) => String::new(),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {
                let raw: String = self.place.text.get(span.clone()).unwrap_or_default().into();
                format!(" is {}; it", cut(&raw))
            }
        };
        self.place.error(span.start, format!("`{key}`{shown} {must}"))
    }

    /// A text that `check` accepts; its error continues the sentence.
    pub(crate) fn text<T, E: fmt::Display>(
        &self,
        check: impl FnOnce(&'d str) -> Result<T, E>,
    ) -> Result<T, FileError> {
        let text = self.value.get_ref().as_str().ok_or_else(|| self.wrong("must be a text in quotes"))?;
        check(text).map_err(|error| self.wrong(error))
    }

    /// A number in `range`.
    pub(crate) fn number(&self, range: RangeInclusive<u32>) -> Result<u32, FileError> {
        let (min, max) = (thousands(*range.start()), thousands(*range.end()));
        let integer = self.value.get_ref().as_integer();
        let number = integer.and_then(|integer| u32::from_str_radix(integer.as_str(), integer.radix()).ok());
        let within = number.filter(|number| range.contains(number));
        within.ok_or_else(|| self.wrong(format!("must be a number from {min} to {max}")))
    }

    /// `true` or `false`.
    pub(crate) fn truth(&self) -> Result<bool, FileError> {
        self.value.get_ref().as_bool().ok_or_else(|| self.wrong("must be true or false"))
    }

    /// A list of values.
    pub(crate) fn list(&self) -> Result<Vec<Entry<'d>>, FileError> {
        let list = self.value.get_ref().as_array();
        let list = list.ok_or_else(|| self.wrong("must be a list: [\"…\", \"…\"]"))?;
        Ok(list.iter().map(|value| Entry { value, ..*self }).collect())
    }

    /// The names of a table that the writer chose, and their values, in the order of the names; `such_as` shows one.
    pub(crate) fn pairs(&self, such_as: &str) -> Result<Vec<(Chosen<'d>, Entry<'d>)>, FileError> {
        let wrong = || self.wrong(format!("must be a table of names and numbers, e.g. {such_as}"));
        let table = self.value.get_ref().as_table().ok_or_else(wrong)?;
        let pair = |(key, value): (&'d Spanned<Cow<'d, str>>, &'d Spanned<DeValue<'d>>)| {
            let (place, offset, key) = (self.place, key.span().start, key.get_ref().as_ref());
            (Chosen { place, key, offset }, Entry { place, key, value })
        };
        Ok(table.iter().map(pair).collect())
    }

    /// A text that is one of `known`.
    pub(crate) fn one_of<T: Copy>(&self, known: &[(&str, T)]) -> Result<T, FileError> {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        self.text(|text| {
            let found = known.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
            found.ok_or_else(|| format!("must be one of {}{}", quoted(&names), meant(text, &names)))
        })
    }
}

fn cut(raw: &str) -> String {
    let short: String = raw.chars().take(60).flat_map(char::escape_debug).collect();
    short.replace("\\\"", "\"").replace("\\'", "'")
}

/// `wrod; did you mean `word`? Known are …`
fn unlisted(word: &str, known: &[&str]) -> String {
    let shown: Cow<'_, str> = word.chars().take(40).flat_map(char::escape_debug).collect();
    format!("`{shown}`{}; known here: {}", meant(word, known), quoted(known))
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// Asks whether the nearest known word was meant, if one is near.
pub(crate) fn meant(word: &str, known: &[&str]) -> String {
    let near = known.iter().map(|known| (distance(word, known), known)).min();
    let allowed = ((word.chars().count() + 1) / 3).clamp(1, 3);
    near.filter(|(distance, _)| *distance <= allowed)
        .map_or(String::new(), |(_, known)| format!("; did you mean `{known}`?"))
}

/// Levenshtein distance: insertions, deletions and changes of characters. Words beyond 64 characters are far.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(65).collect(), b.chars().take(65).collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let (mut diagonal, mut left) = (i, i + 1);
        for (y, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let up = *cell;
            left = (diagonal + usize::from(x != y)).min(up + 1).min(left + 1);
            diagonal = up;
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// 1,000,000 rather than 1000000.
pub(crate) fn thousands(number: u32) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_levenshtein() {
        let cases =
            [("", "", 0), ("credit", "credits", 1), ("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3)];
        for (a, b, want) in cases {
            assert_eq!((distance(a, b), distance(b, a)), (want, want), "{a} {b}");
        }
    }

    #[test]
    fn only_a_near_word_is_suggested() {
        assert_eq!(meant("bordr", &["border", "spoc"]), "; did you mean `border`?");
        assert_eq!(meant("zzz", &["border", "spoc"]), "");
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!([thousands(7), thousands(1_024), thousands(10_000_000)], ["7", "1,024", "10,000,000"]);
    }

    #[test]
    fn an_error_names_the_line() {
        let document = Document::parse("a.toml", "x = 1\n\ny = \"two\"\n").unwrap();
        let top = document.top(&["x", "y"]).unwrap();
        let error = top.get("y").unwrap().number(1..=9).unwrap_err();
        assert_eq!(error.to_string(), "a.toml, line 3: `y` is \"two\"; it must be a number from 1 to 9");
        let error = document.top(&["x"]).err().unwrap();
        assert_eq!(
            (error.line, error.problem.as_str()),
            (3, "there is no key `y`; did you mean `x`?; known here: `x`")
        );
        let broken = Document::parse("a.toml", "x = 1\ny = \n").err().unwrap();
        assert_eq!(broken.line, 2);
    }
}
