//! What is wrong with a spec, ready to be shown: rustc-style, underlined in the spec's own text.
//! Rendering only; the rules and the words stand where the tables are read.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use annotate_snippets::renderer::{DecorStyle, Renderer};
use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Origin, Snippet, normalize_untrusted_str};

use super::mask::mask;
use super::problems::{Diagnostic, Span};

/// Everything that is wrong with a spec, in the order of the file. Never empty.
///
/// `Display`, and `Debug` with it, is [`SpecErrors::render`] without colour.
pub struct SpecErrors {
    /// The spec as the caller named it.
    path: String,
    /// Without secrets.
    text: String,
    problems: Vec<Diagnostic>,
    /// How many more there are than `problems` holds.
    unkept: usize,
}

impl SpecErrors {
    pub(super) fn new(path: &Path, text: &str, problems: Vec<Diagnostic>, unkept: usize) -> SpecErrors {
        SpecErrors {
            path: normalize_untrusted_str(&path.display().to_string()),
            text: mask(text),
            problems,
            unkept,
        }
    }

    /// How many mistakes there are.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.problems.len() + self.unkept
    }

    #[cfg(test)]
    pub(super) fn first(&self) -> &Diagnostic {
        &self.problems[0]
    }

    /// All mistakes, to be printed: several lines each, blank lines between, no line break at the end.
    /// `color` adds ANSI escape sequences; the words are the same without.
    pub fn render(&self, color: bool) -> String {
        let renderer =
            if color { Renderer::styled() } else { Renderer::plain() }.decor_style(DecorStyle::Ascii);
        let mut parts: Vec<String> =
            self.problems.iter().map(|problem| renderer.render(&[self.report(problem)])).collect();
        match self.unkept {
            0 => {}
            1 => parts.push("… and 1 more error".to_owned()),
            n => parts.push(format!("… and {n} more errors")),
        }
        parts.join("\n\n")
    }

    /// Escapes control characters in labels, paths and help, which may quote the spec and which the crate
    /// prints as they are.
    fn report<'a>(&'a self, problem: &'a Diagnostic) -> Group<'a> {
        let level = if problem.is_warning { Level::WARNING } else { Level::ERROR };
        let mut group = Group::with_title(level.primary_title(&problem.headline));
        group = match &problem.primary {
            Some((span, label)) => group.element(self.snippet(span, label, &problem.others)),
            None => group.element(Origin::path(&self.path)),
        };
        for help in &problem.help {
            let lines: Vec<String> = help.lines().map(normalize_untrusted_str).collect();
            group = group.element(Level::HELP.message(lines.join("\n")));
        }
        group
    }

    /// Only the lines from the first to the last span are handed over: the renderer's work grows
    /// with the text that it is given.
    fn snippet<'a>(
        &'a self,
        primary: &Span,
        label: &str,
        others: &[(Span, String)],
    ) -> Snippet<'a, Annotation<'a>> {
        let spans = || others.iter().map(|(span, _)| span).chain([primary]);
        let first = spans().map(|span| span.start).min().unwrap_or(0);
        let last = spans().map(|span| span.end).max().unwrap_or(0);
        let window = lines_around(&self.text, first..last);
        let within = |span: &Span| {
            let span = on_characters(&self.text, span);
            span.start - window.start..span.end - window.start
        };
        let line = 1 + self.text[..window.start].matches('\n').count();
        Snippet::source(&self.text[window.clone()])
            .line_start(line)
            .path(&self.path)
            .annotation(AnnotationKind::Primary.span(within(primary)).label(normalize_untrusted_str(label)))
            .annotations(others.iter().map(|(span, label)| {
                AnnotationKind::Context.span(within(span)).label(normalize_untrusted_str(label))
            }))
    }
}

/// The span grown to whole lines, without the last line's break.
fn lines_around(text: &str, span: Span) -> Range<usize> {
    let span = on_characters(text, &span);
    let start = text[..span.start].rfind('\n').map_or(0, |at| at + 1);
    let end = text[span.end..].find('\n').map_or(text.len(), |at| span.end + at);
    start..end
}

/// The span within the text, its ends moved outward to where characters begin. A span comes from
/// the parser, and a wrong one shall cost an underline, not a panic.
fn on_characters(text: &str, span: &Span) -> Range<usize> {
    let mut start = span.start.min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let mut end = span.end.clamp(start, text.len());
    while !text.is_char_boundary(end) {
        end += 1;
    }
    start..end
}

impl fmt::Display for SpecErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl fmt::Debug for SpecErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for SpecErrors {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::problems::Problems;

    const TEXT: &str = "[title]\nsource = \"ä.mp4\"\n\n[[rung]]\nname = \"720p\"";

    fn errors(problem: Diagnostic) -> SpecErrors {
        let mut problems = Problems::default();
        problems.report(problem);
        problems.into_errors(Path::new("dir/ladder.toml"), TEXT)
    }

    #[test]
    fn a_problem_is_underlined_with_its_line_and_column() {
        let start = TEXT.find("\"720p").unwrap();
        let problem = Diagnostic::new("wrong name")
            .at(start..TEXT.len(), "this one")
            .and(1..6, "because of this")
            .help("write another\nor none")
            .help("or ask");
        assert_eq!(
            errors(problem).to_string(),
            "\
error: wrong name
 --> dir/ladder.toml:5:8
  |
1 | [title]
  |  ----- because of this
...
5 | name = \"720p\"
  |        ^^^^^^ this one
  |
  = help: write another
          or none
  = help: or ask"
        );
    }

    #[test]
    fn a_problem_without_a_place_names_the_file() {
        assert_eq!(
            errors(Diagnostic::new("nothing here").help("add something")).to_string(),
            "error: nothing here\n--> dir/ladder.toml\n = help: add something"
        );
    }

    #[test]
    fn colour_changes_no_words() {
        let errors = errors(Diagnostic::new("wrong").at(1..6, "here").help("so"));
        let coloured = errors.render(true);
        assert!(coloured.contains("\u{1b}["));
        let mut plain = String::new();
        let mut rest = coloured.as_str();
        while let Some((before, after)) = rest.split_once("\u{1b}[") {
            plain.push_str(before);
            rest = after.split_once('m').unwrap().1;
        }
        assert_eq!(plain + rest, errors.render(false));
    }

    #[test]
    fn a_span_off_the_text_is_no_panic() {
        let inside_character = TEXT.find('ä').unwrap() + 1;
        for span in [
            inside_character..inside_character,
            inside_character..inside_character + 1,
            TEXT.len()..TEXT.len(),
            TEXT.len() + 5..TEXT.len() + 9,
            0..usize::MAX,
            #[expect(clippy::reversed_empty_ranges, reason = "as wrong as can be")]
            (9..3),
        ] {
            let rendered = errors(Diagnostic::new("wrong").at(span, "here")).render(true);
            assert!(rendered.contains("wrong"));
        }
    }

    #[test]
    fn nothing_reaches_the_terminal_as_a_command() {
        let evil = "\u{1b}]0;owned\u{7}\u{202e}";
        let text = format!("a = \"{evil}\"");
        let mut problems = Problems::default();
        problems.report(
            Diagnostic::new(format!("wrong {evil}"))
                .at(4..text.len(), format!("label {evil}"))
                .help(format!("help {evil}")),
        );
        let shown = problems.into_errors(Path::new(&format!("x{evil}.toml")), &text).render(false);
        assert!(!shown.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{shown}");
    }
}
