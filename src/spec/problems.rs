//! Collects what is wrong with a spec, so that all of it can be shown at once.
//! Readers report here and go on; nothing here renders or stops anything.

use std::ops::Range;
use std::path::Path;

use super::errors::SpecErrors;

/// A stretch of the spec's text, in bytes.
pub(super) type Span = Range<usize>;

/// Proof that a problem has been reported. Only [`Problems::report`] makes one, so a reader cannot
/// fail without saying why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reported(());

/// What reading a part of the spec comes to.
pub(super) type Read<T> = Result<T, Reported>;

/// As many problems as are kept in full; the rest are counted. A spec with more is not a spec, and
/// must not cost memory in proportion.
pub(super) const KEPT: usize = 100;

/// One problem: a headline, the places it is about, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Diagnostic {
    pub(super) headline: String,
    /// Where it is, and a few words about that place. `None` where something is missing.
    pub(super) primary: Option<(Span, String)>,
    /// Other places that it has to do with.
    pub(super) others: Vec<(Span, String)>,
    pub(super) help: Vec<String>,
    /// Whether it is no more than something to look at.
    pub(super) is_warning: bool,
}

impl Diagnostic {
    pub(super) fn new(headline: impl Into<String>) -> Diagnostic {
        Diagnostic {
            headline: headline.into(),
            primary: None,
            others: Vec::new(),
            help: Vec::new(),
            is_warning: false,
        }
    }

    /// Underlines the place that the problem is about.
    pub(super) fn at(mut self, span: Span, label: impl Into<String>) -> Diagnostic {
        self.primary = Some((span, label.into()));
        self
    }

    /// Points at another place that has to do with it.
    pub(super) fn and(mut self, span: Span, label: impl Into<String>) -> Diagnostic {
        self.others.push((span, label.into()));
        self
    }

    pub(super) fn warning(mut self) -> Diagnostic {
        self.is_warning = true;
        self
    }

    /// Says what to do; more than one line is possible, more than one way too.
    pub(super) fn help(mut self, text: impl Into<String>) -> Diagnostic {
        self.help.push(text.into());
        self
    }
}

/// All that is wrong so far.
#[derive(Debug, Default)]
pub(super) struct Problems {
    kept: Vec<Diagnostic>,
    unkept: usize,
}

impl Problems {
    pub(super) fn report(&mut self, problem: Diagnostic) -> Reported {
        if self.kept.len() < KEPT {
            self.kept.push(problem);
        } else {
            self.unkept += 1;
        }
        Reported(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Ends the collection. `path` is the spec as messages shall name it, `text` what spans
    /// refer to.
    pub(super) fn into_errors(mut self, path: &Path, text: &str) -> SpecErrors {
        // In the order of the file, what has no place last: readers go table by table.
        self.kept.sort_by_key(|problem| match &problem.primary {
            Some((span, _)) => span.start,
            None => usize::MAX,
        });
        SpecErrors::new(path, text, self.kept, self.unkept)
    }
}

/// Text of the spec as it is quoted in a message: in backquotes, on one line, not too long, with
/// nothing in it that a terminal would obey.
pub(super) fn quoted(text: &str) -> String {
    const SHOWN: usize = 60;
    let mut shown = String::from("`");
    for (count, c) in text.chars().enumerate() {
        if count == SHOWN {
            shown.push('…');
            break;
        }
        match c {
            '"' | '\'' | '\\' => shown.push(c),
            _ => shown.extend(c.escape_debug()),
        }
    }
    shown.push('`');
    shown
}

/// "`a`", "`a` or `b`", "`a`, `b` or `c`".
pub(super) fn alternatives(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [only] => only.clone(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_short_and_tame() {
        assert_eq!(quoted("720p"), "`720p`");
        assert_eq!(quoted("a\nb\u{1b}[31m\0"), "`a\\nb\\u{1b}[31m\\0`");
        assert_eq!(quoted("C:\\x \"y\""), "`C:\\x \"y\"`");
        assert_eq!(quoted("\u{202e}gpj"), "`\\u{202e}gpj`");
        assert_eq!(quoted(&"é".repeat(61)).chars().count(), 63);
        assert_eq!(quoted(&"é".repeat(60)), format!("`{}`", "é".repeat(60)));
    }

    #[test]
    fn alternatives_read_as_a_sentence() {
        assert_eq!(alternatives(&["a"]), "`a`");
        assert_eq!(alternatives(&["a", "b"]), "`a` or `b`");
        assert_eq!(alternatives(&["a", "b", "c"]), "`a`, `b` or `c`");
    }

    #[test]
    fn problems_beyond_the_limit_are_counted() {
        let mut problems = Problems::default();
        for _ in 0..KEPT + 7 {
            problems.report(Diagnostic::new("wrong"));
        }
        let errors = problems.into_errors(Path::new("l.toml"), "");
        assert_eq!(errors.len(), KEPT + 7);
        assert!(errors.to_string().ends_with("… and 7 more errors"));
    }
}
