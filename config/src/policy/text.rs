//! Where things stand in a text of policies.

use cedar_policy::PolicyId;

use super::set::Problem;

/// One policy as it is written, with the annotations and comments before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Statement<'t> {
    whole: &'t str,
    /// Where it begins, bytes.
    start: usize,
    /// With its semicolon.
    pub(super) text: &'t str,
    number: usize,
}

impl<'t> Statement<'t> {
    /// Its name within the set; not the one that people see.
    pub(super) fn policy_id(&self) -> PolicyId {
        PolicyId::new(self.number.to_string())
    }

    /// Its number of such a name.
    pub(super) fn number(id: &PolicyId) -> Option<usize> {
        AsRef::<str>::as_ref(id).parse().ok()
    }

    /// The literals in it.
    pub(super) fn literals(&self) -> Vec<Literal<'t>> {
        literals(self.text)
    }

    /// A problem `offset` bytes into it; 0 for all of it.
    pub(super) fn problem(&self, offset: usize, what: impl Into<String>, mend: &str) -> Problem {
        let first = || tokens(self.text).find(|token| token.kind != Kind::Comment);
        let (line, column) = place(
            self.whole,
            self.start + if offset == 0 { first().map_or(0, |token| token.start) } else { offset },
        );
        Problem { line, column, what: what.into(), mend: mend.to_owned() }
    }
}

/// Line and column of a byte, from 1; columns in characters.
pub(super) fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (before.matches('\n').count() + 1, column)
}

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Comment,
    /// In quotes.
    Text,
    Word,
    Mark,
}

/// A part of a text that Cedar takes as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'t> {
    pub(super) kind: Kind,
    /// Where it begins, bytes.
    pub(super) start: usize,
    pub(super) text: &'t str,
}

impl Token<'_> {
    pub(super) fn is(&self, mark: &str) -> bool {
        self.kind == Kind::Mark && self.text == mark
    }
}

const PAIRS: [&str; 7] = ["::", "==", "!=", "<=", ">=", "||", "&&"];

/// The tokens of a text, by the rules of Cedar's own grammar. A text in quotes that never ends goes on to the end.
pub(super) fn tokens(text: &str) -> impl Iterator<Item = Token<'_>> {
    let mut letters = text.char_indices().peekable();
    let is_word = |letter: char| letter == '_' || letter.is_alphanumeric();
    std::iter::from_fn(move || {
        let (start, letter) = letters.find(|(_, letter)| !letter.is_whitespace())?;
        let kind = match letter {
            '"' => {
                while let Some((_, inside)) = letters.next_if(|(_, inside)| *inside != '"') {
                    if inside == '\\' {
                        letters.next();
                    }
                }
                letters.next();
                Kind::Text
            }
            '/' if letters.peek().is_some_and(|(_, next)| *next == '/') => {
                while letters.next_if(|(_, inside)| !matches!(inside, '\n' | '\r')).is_some() {}
                Kind::Comment
            }
            letter if is_word(letter) => {
                while letters.next_if(|(_, inside)| is_word(*inside)).is_some() {}
                Kind::Word
            }
            _ => {
                letters.next_if(|(at, next)| {
                    text.get(start..at + next.len_utf8()).is_some_and(|pair| PAIRS.contains(&pair))
                });
                Kind::Mark
            }
        };
        let end = letters.peek().map_or(text.len(), |(at, _)| *at);
        Some(Token { kind, start, text: text.get(start..end)? })
    })
}

/// The policies of a text, each up to its semicolon; what stands behind the last one is one more, unless it is only comments
/// and space.
pub(super) fn statements(text: &str) -> Vec<Statement<'_>> {
    let (mut found, mut start, mut bare) = (Vec::new(), 0, true);
    let mut push = |start: usize, end: usize| {
        if let Some(part) = text.get(start..end) {
            found.push(Statement { whole: text, start, text: part, number: found.len() });
        }
    };
    for token in tokens(text).filter(|token| token.kind != Kind::Comment) {
        bare = false;
        if token.is(";") {
            push(start, token.start + 1);
            (start, bare) = (token.start + 1, true);
        }
    }
    if !bare {
        push(start, text.len());
    }
    found
}

/// `Lintas::Agency::"TH"` in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Literal<'t> {
    /// Where it begins, bytes.
    pub(super) start: usize,
    /// Its type as written, e.g. `Lintas::Agency`.
    pub(super) kind: String,
    /// What stands in the quotes.
    pub(super) name: &'t str,
    /// Where that begins.
    pub(super) name_at: usize,
}

/// Every literal of a text that has no escapes in it.
pub(super) fn literals(text: &str) -> Vec<Literal<'_>> {
    let (mut found, mut kind, mut start) = (Vec::new(), String::new(), 0);
    for token in tokens(text).filter(|token| token.kind != Kind::Comment) {
        let path = kind.ends_with("::");
        match token.kind {
            Kind::Text if path => {
                let name = token.text.trim_matches('"');
                let kind = kind.trim_end_matches(':').to_owned();
                found.push(Literal { start, kind, name, name_at: token.start + 1 });
            }
            Kind::Word if path => {
                kind.push_str(token.text);
                continue;
            }
            Kind::Word => {
                (start, kind) = (token.start, token.text.to_owned());
                continue;
            }
            Kind::Mark if token.text == "::" && !kind.is_empty() => {
                kind.push_str("::");
                continue;
            }
            Kind::Mark | Kind::Text | Kind::Comment => {}
        }
        kind.clear();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_semicolon_in_words_or_comments_ends_nothing() {
        let text = "// one; two\n@reason(\"a; \\\"b\\\"; c\")\npermit (x);\n\n forbid (y); // rest;\n";
        let found = statements(text);
        assert_eq!(found.len(), 2);
        assert!(found[0].text.ends_with("permit (x);") && found[1].text.trim() == "forbid (y);");
        assert_eq!((found[1].problem(0, "", "").line, found[1].problem(0, "", "").column), (5, 2));
    }

    #[test]
    fn what_is_not_ended_is_one_more() {
        assert_eq!(statements("permit (x); forbid").len(), 2);
        assert_eq!(statements("").len(), 0);
        assert_eq!(statements("// only a comment").len(), 0);
        assert_eq!(statements("\"never ended").len(), 1);
    }

    #[test]
    fn comments_end_where_cedar_says_they_do() {
        assert_eq!(statements("// one\rforbid (x);").len(), 1);
        assert_eq!(statements("// one\r\nforbid (x);\r\n").len(), 1);
    }

    #[test]
    fn literals_are_found_with_their_places() {
        let text = "x == A::B::\"c\" && [D :: \"e\", // F::\"g\"\n \"h\"]";
        let found: Vec<_> = literals(text).into_iter().map(|one| (one.kind, one.name, one.start)).collect();
        assert_eq!(found, [("A::B".to_owned(), "c", 5), ("D".to_owned(), "e", 19)]);
    }

    #[test]
    fn columns_are_counted_in_characters() {
        assert_eq!(place("ปกปิด x\nb", "ปกปิด ".len()), (1, 7));
        assert_eq!(place("ab\ncd", 4), (2, 2));
    }
}
