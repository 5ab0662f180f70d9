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

impl Statement<'_> {
    /// Its name within the set; not the one that people see.
    pub(super) fn policy_id(&self) -> PolicyId {
        PolicyId::new(self.number.to_string())
    }

    /// A problem `offset` bytes into it; 0 for all of it.
    pub(super) fn problem(&self, offset: usize, what: impl Into<String>, mend: &str) -> Problem {
        let lead = self.text.len() - self.text.trim_start().len();
        let (line, column) = place(self.whole, self.start + if offset == 0 { lead } else { offset });
        Problem { line, column, what: what.into(), mend: mend.to_owned() }
    }
}

/// Line and column of a byte, from 1; columns in characters.
pub(super) fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (before.matches('\n').count() + 1, column)
}

/// The policies of a text, each up to its semicolon; what stands behind the last one is one more, unless it is only comments
/// and space.
pub(super) fn statements(text: &str) -> Vec<Statement<'_>> {
    let (mut found, mut start, mut bare) = (Vec::new(), 0, true);
    let mut letters = text.char_indices().peekable();
    let mut push = |start: usize, end: usize| {
        if let Some(part) = text.get(start..end) {
            found.push(Statement { whole: text, start, text: part, number: found.len() });
        }
    };
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => {
                bare = false;
                while let Some((_, inside)) = letters.next() {
                    match inside {
                        '\\' => {
                            letters.next();
                        }
                        '"' => break,
                        _ => {}
                    }
                }
            }
            '/' if letters.peek().is_some_and(|(_, next)| *next == '/') => {
                while letters.next_if(|(_, inside)| *inside != '\n').is_some() {}
            }
            ';' => {
                push(start, at + 1);
                (start, bare) = (at + 1, true);
            }
            other => bare &= other.is_whitespace(),
        }
    }
    if !bare {
        push(start, text.len());
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
    fn columns_are_counted_in_characters() {
        assert_eq!(place("ปกปิด x\nb", "ปกปิด ".len()), (1, 7));
        assert_eq!(place("ab\ncd", 4), (2, 2));
    }
}
