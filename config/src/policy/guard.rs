//! What a text must stand before Cedar sees it: letters that are what they look like, and no expression so deep that its
//! reader or its evaluation would run out of stack.

use super::{
    set::{PROBLEMS_MAX, Problem},
    text::{Kind, Token, place, tokens},
};

/// Deepest nesting of brackets.
pub const NESTING_MAX: usize = 32;
/// Deepest expression: operators that stand within each other or in one chain. A list in brackets is as deep as its deepest
/// item, however long it is.
pub const DEPTH_MAX: usize = 256;

/// Whatever forbids a text to be read; one problem for each line at most.
pub(super) fn guard(text: &str) -> Vec<Problem> {
    let problems = letters(text);
    if problems.is_empty() { depth(text).into_iter().collect() } else { problems }
}

/// Outside of comments and annotations: plain letters only, written as themselves. Inside of them: nothing that hides or turns
/// what stands beside it.
fn letters(text: &str) -> Vec<Problem> {
    let (mut problems, mut checked) = (Vec::new(), 0);
    let mut before = ["", ""];
    for token in tokens(text) {
        if problems.len() >= PROBLEMS_MAX {
            return problems;
        }
        let annotation = before == ["@", "("] && token.kind == Kind::Text;
        let free = annotation || token.kind == Kind::Comment;
        let end = token.start + token.text.len();
        for (from, to, free) in [(checked, token.start, false), (token.start, end, free)] {
            strange(text, from, to, free, &mut problems);
        }
        if token.kind == Kind::Text && !annotation && token.text.contains('\\') {
            let what = "letters may not be written in codes, e.g. `\\u{41}`: nobody sees what they are";
            problems.push(at(text, token.start, what.to_owned(), "write the letter itself"));
        }
        checked = end;
        match token.kind {
            Kind::Comment => {}
            // `@`, a word, `(`: the word between them does not count.
            Kind::Word if before[1] == "@" => {}
            Kind::Word | Kind::Text | Kind::Mark => {
                before = if before[1] == "@" { ["@", token.text] } else { ["", token.text] };
            }
        }
    }
    strange(text, checked, text.len(), false, &mut problems);
    problems.dedup_by_key(|problem| problem.line);
    problems
}

fn strange(text: &str, from: usize, to: usize, free: bool, problems: &mut Vec<Problem>) {
    let part = text.get(from..to).unwrap_or_default();
    let mut letters = part.char_indices().peekable();
    while let Some((offset, letter)) = letters.next() {
        let ends_line =
            letter == '\r' && text.get(from + offset + 1..).is_some_and(|rest| rest.starts_with('\n'));
        let refused = (letter.is_control() && !matches!(letter, '\n' | '\t') && !ends_line)
            || hides(letter)
            || (!free && !letter.is_ascii());
        if refused {
            let (what, mend) = letter_problem(letter);
            problems.push(at(text, from + offset, what, &mend));
            // One for each line is enough.
            while letters.next_if(|(_, letter)| *letter != '\n').is_some() {}
        }
    }
}

fn letter_problem(letter: char) -> (String, String) {
    let code = format!("U+{:04X}", u32::from(letter));
    if letter.is_control() || hides(letter) {
        return (format!("there is a hidden sign ({code}) here"), "delete it".to_owned());
    }
    match plain(letter) {
        Some(plain) => (
            format!("`{letter}` ({code}) only looks like the plain letter `{plain}`"),
            format!("write `{plain}`"),
        ),
        None => (
            format!("`{letter}` ({code}) may stand in comments and annotations only"),
            "write plain letters here: a to z, A to Z, 0 to 9".to_owned(),
        ),
    }
}

fn at(text: &str, offset: usize, what: String, mend: &str) -> Problem {
    let (line, column) = place(text, offset);
    Problem { line, column, what, mend: mend.to_owned() }
}

/// Turns the direction of a text, ends a line for some programs only, or marks the order of bytes.
fn hides(letter: char) -> bool {
    matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// The plain letter that one looks like.
fn plain(letter: char) -> Option<char> {
    const ALIKE: [(&str, &str); 4] = [
        ("АВСЕНІЈКМОРԚЅТԜХУҮаԁеһіјӏорԛгѕսԝхуүс", "ABCEHIJKMOPQSTWXYYadehijlopqrsuwxyyc"),
        ("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧαγικνορτυχ", "ABEZHIKMNOPTYXayiKvoptux"),
        ("ıſ‐‑‒–—−“”„«»‘’×∗", "is------\"\"\"\"\"''x*"),
        ("\u{a0}\u{2007}\u{202f}\u{3000}：；，．（）｛｝＝", "    :;,.(){}="),
    ];
    let wide = u32::from(letter).checked_sub(0xfee0).and_then(char::from_u32);
    let wide = wide.filter(|plain| plain.is_ascii_graphic());
    let mut pairs = ALIKE.iter().flat_map(|(alike, plain)| alike.chars().zip(plain.chars()));
    wide.or_else(|| pairs.find(|(alike, _)| *alike == letter).map(|(_, plain)| plain))
}

/// One pair of brackets, or the whole of a policy.
#[derive(Default)]
struct Level {
    operators: usize,
    /// Of the brackets in this item, and of the items before it.
    inside: usize,
    items: usize,
}

impl Level {
    fn depth(&self) -> usize {
        (self.operators + self.inside).max(self.items)
    }
}

/// The first expression that is too deep. Counts tokens, so that it needs no stack itself.
fn depth(text: &str) -> Option<Problem> {
    let mut levels = vec![Level::default()];
    for token in tokens(text) {
        let nested = levels.len();
        let Some(level) = levels.last_mut() else { break };
        match token.text {
            _ if matches!(token.kind, Kind::Comment | Kind::Text) => {}
            ";" => levels = vec![Level::default()],
            "(" | "[" | "{" => {
                level.operators += 1;
                levels.push(Level::default());
            }
            ")" | "]" | "}" if nested > 1 => {
                let closed = levels.pop().map_or(0, |level| level.depth());
                if let Some(level) = levels.last_mut() {
                    level.inside = level.inside.max(closed);
                }
            }
            "," => {
                let items = level.depth();
                *level = Level { items, ..Level::default() };
            }
            _ if is_operator(&token) => level.operators += 1,
            _ => {}
        }
        let deepest = levels.last().map_or(0, Level::depth);
        let what = if levels.len() > NESTING_MAX {
            format!("more than {NESTING_MAX} brackets stand within each other here")
        } else if deepest > DEPTH_MAX {
            format!("this expression is too long: more than {DEPTH_MAX} operators in one")
        } else {
            continue;
        };
        return Some(at(
            text,
            token.start,
            what,
            "make several policies of it, or a list in brackets: [a, b]",
        ));
    }
    None
}

fn is_operator(token: &Token<'_>) -> bool {
    let words = ["in", "has", "like", "is", "if", "then", "else", "when", "unless"];
    match token.kind {
        Kind::Mark => !matches!(token.text, "::" | "@" | ":"),
        Kind::Word => words.contains(&token.text),
        Kind::Comment | Kind::Text => false,
    }
}
