//! Rules for output folders. Publishing removes old files from its folder, so an output may not contain, or
//! be inside, anything that a build reads or that belongs to the user.

use std::collections::HashMap;
use std::path::Path;

use super::ladder::Title;
use super::paths::{self, BaseDir, ResolvedPath, VIEWS};
use super::problems::{Diagnostic, Problems, Span, quoted};

/// A path and its place in the spec.
#[derive(Debug)]
pub(super) struct Located {
    pub(super) path: ResolvedPath,
    pub(super) span: Span,
}

/// A title that is valid by itself, with the paths that it uses.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) name: String,
    pub(super) source: Located,
    pub(super) output: Located,
}

impl Claim {
    pub(super) fn into_title(self) -> Title {
        Title { name: self.name, source: self.source.path.written, output: self.output.path.written }
    }
}

/// Checks every output against all sources, all other outputs, the spec, the cache and the home
/// folder. Reports at most one problem for each output.
pub(super) fn check(claims: &[&Claim], cache: Option<&Located>, base: &BaseDir, problems: &mut Problems) {
    let spec = ResolvedPath::new(&base.spec);
    let home = base.home.as_deref().map(ResolvedPath::new);
    let sources = sources_met(claims);
    let outputs = outputs_met(claims);
    for (at, claim) in claims.iter().enumerate() {
        let output = &claim.output;
        let fault = is_root(output)
            .or_else(|| holds(output, &spec, "the spec"))
            .or_else(|| holds(output, home.as_ref()?, "your home folder"))
            .or_else(|| {
                let source = *sources.get(&at)?;
                let whose = match source == at {
                    true => "its source",
                    false => "the source of another title",
                };
                meets(output, &claims.get(source)?.source, whose, "the source")
            })
            .or_else(|| {
                let other = claims.get(*outputs.get(&at)?)?;
                meets(output, &other.output, "the output of another title", "the other output")
            })
            .or_else(|| meets(output, cache?, "the cache", "the cache folder"))
            .map(|fault| fault.help(own_folder(&claim.name)))
            .or_else(|| is_blocked(output));
        if let Some(fault) = fault {
            problems.report(fault);
        }
    }
}

fn own_folder(name: &str) -> String {
    let example = format!("output = \"dist/{name}\"");
    format!(
        "a build removes old files from its output: use a folder of its own, for example: {}",
        quoted(&example)
    )
}

fn is_root(output: &Located) -> Option<Diagnostic> {
    let is_root = VIEWS.iter().any(|view| view(&output.path).parent().is_none());
    is_root.then(|| {
        Diagnostic::new("the output is the root folder").at(output.span.clone(), label("the output", output))
    })
}

fn holds(output: &Located, held: &ResolvedPath, what: &str) -> Option<Diagnostic> {
    output.path.holds(held).then(|| {
        Diagnostic::new(format!("the output contains {what}"))
            .at(output.span.clone(), format!("contains {}", shown(&held.written)))
    })
}

fn is_blocked(output: &Located) -> Option<Diagnostic> {
    let obstacle = paths::obstacle(&output.path.written)?;
    Some(
        Diagnostic::new("the output cannot be used as a folder")
            .at(output.span.clone(), obstacle.to_string())
            .help("name another path, or move it away"),
    )
}

/// A problem if the two are not apart.
fn meets(output: &Located, other: &Located, what: &str, short: &str) -> Option<Diagnostic> {
    let verb = match (output.path.holds(&other.path), other.path.holds(&output.path)) {
        (true, true) => "is",
        (true, false) => "contains",
        (false, true) => "is inside",
        (false, false) => return None,
    };
    Some(
        Diagnostic::new(format!("the output {verb} {what}"))
            .at(output.span.clone(), label("the output", output))
            .and(other.span.clone(), label(short, other)),
    )
}

/// Shows where symbolic links lead.
fn label(what: &str, located: &Located) -> String {
    match located.path.real == located.path.written {
        true => what.to_owned(),
        false => format!("{what}, through symbolic links {}", shown(&located.path.real)),
    }
}

fn shown(path: &Path) -> String {
    quoted(&path.display().to_string())
}

/// For an output, a source that it is, contains or is inside.
fn sources_met(claims: &[&Claim]) -> HashMap<usize, usize> {
    let mut met = HashMap::new();
    for view in VIEWS {
        let outputs = Index::new(claims.iter().map(|claim| view(&claim.output.path)));
        let sources = Index::new(claims.iter().map(|claim| view(&claim.source.path)));
        for (at, claim) in claims.iter().enumerate() {
            for source in sources.holding(view(&claim.output.path)) {
                met.entry(at).or_insert(source);
            }
            for output in outputs.holding(view(&claim.source.path)) {
                met.entry(output).or_insert(at);
            }
        }
    }
    met
}

/// For an output, an earlier one that it is, contains or is inside.
fn outputs_met(claims: &[&Claim]) -> HashMap<usize, usize> {
    let mut met = HashMap::new();
    for view in VIEWS {
        let outputs = Index::new(claims.iter().map(|claim| view(&claim.output.path)));
        for (at, claim) in claims.iter().enumerate() {
            for other in outputs.holding(view(&claim.output.path)) {
                if other != at {
                    met.entry(at.max(other)).or_insert(at.min(other));
                }
            }
        }
    }
    met
}

/// Where each of some paths stands in a list; of equal ones, the first. Comparing all with all
/// would take hours for the titles that fit into a spec.
struct Index<'c>(HashMap<&'c Path, usize>);

impl<'c> Index<'c> {
    fn new(paths: impl Iterator<Item = &'c Path>) -> Index<'c> {
        let mut index = HashMap::new();
        for (at, path) in paths.enumerate() {
            index.entry(path).or_insert(at);
        }
        Index(index)
    }

    /// Those that are `path` or a folder above it.
    fn holding(&self, path: &Path) -> impl Iterator<Item = usize> {
        path.ancestors().filter_map(|ancestor| self.0.get(ancestor).copied())
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use crate::spec::testing::{TAIL, has, invalid, ladder, read_at};

    fn spec(titles: &[(&str, &str)], more: &str) -> String {
        let mut text = String::new();
        for (n, (source, output)) in titles.iter().enumerate() {
            text += &format!("[[title]]\nname='{n}'\nsource='{source}'\noutput='{output}'\n");
        }
        text + TAIL + more
    }

    fn refused(titles: &[(&str, &str)], more: &str, parts: &[&str]) {
        let text = invalid(&spec(titles, more));
        has(&text, parts);
        has(&text, &["use a folder of its own, for example: `output = \"dist/"]);
        assert_eq!(text.matches("error:").count(), 1, "{text}");
    }

    #[test]
    fn outputs_apart_from_all_else_are_fine() {
        let titles = [("a.mp4", "dist/a"), ("a.mp4", "dist/ab"), ("dist/a.mp4", "/no/out")];
        let ladder = ladder(&spec(&titles, "[cache]\ndir = 'dist/cache'"));
        assert_eq!(ladder.titles.len(), 3);
    }

    #[test]
    fn the_output_is_not_the_source_nor_above_nor_below_it() {
        refused(
            &[("media/a.mp4", "media/a.mp4")],
            "",
            &["error: the output is its source", "ladder.toml:4:8", "- the source"],
        );
        refused(
            &[("media/a.mp4", "media")],
            "",
            &["error: the output contains its source", "use a folder of its own"],
        );
        refused(&[("media/a.mp4", "./media/a.mp4/out")], "", &["error: the output is inside its source"]);
        refused(
            &[("media/a.mp4", "dist/a"), ("dist/a/b.mp4", "dist/b")],
            "",
            &["error: the output contains the source of another title", "ladder.toml:4:8"],
        );
    }

    #[test]
    fn the_output_holds_neither_spec_nor_home_nor_everything() {
        let source = "/else/a.mp4";
        for folder in [".", "/no/such", "/no/such/ladder.toml", "dist/.."] {
            refused(&[(source, folder)], "", &["contains the spec", "contains `/no/such/ladder.toml`"]);
        }
        for folder in ["/home/me", "/home"] {
            refused(&[(source, folder)], "", &["error: the output contains your home folder"]);
        }
        refused(&[(source, "/")], "", &["error: the output is the root folder"]);
        assert_eq!(ladder(&spec(&[(source, "/home/me/x")], "")).titles.len(), 1);
    }

    #[test]
    fn outputs_of_two_titles_are_apart() {
        let verbs = [("d/x", "d/x", "is"), ("d/x", "d/x/y", "is inside"), ("d/x/y", "d/x", "contains")];
        for (first, second, verb) in verbs {
            let expected = format!("error: the output {verb} the output of another title");
            refused(
                &[("a.mp4", first), ("b.mp4", second)],
                "",
                &[&expected, "ladder.toml:8:8", "- the other output", "^ the output"],
            );
        }
    }

    #[test]
    fn the_output_is_apart_from_the_cache() {
        for (dir, verb) in [("d/x", "is"), ("d", "is inside"), ("d/x/c", "contains")] {
            let expected = format!("error: the output {verb} the cache");
            refused(
                &[("a.mp4", "d/x")],
                &format!("[cache]\ndir = '{dir}'"),
                &[&expected, "the cache folder"],
            );
        }
    }

    /// A folder that goes away, by its real path.
    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = fs::canonicalize(folder.path()).unwrap();
        (folder, path)
    }

    #[test]
    fn the_output_is_no_file_and_not_below_one() {
        let (_guard, root) = folder();
        fs::write(root.join("file"), "").unwrap();
        symlink("nowhere", root.join("broken")).unwrap();
        for (output, reason) in [
            ("file", "/file` is a file"),
            ("file/below", "/file` is a file"),
            ("broken/below", "/broken` is a broken symbolic link"),
        ] {
            let text = read_at(&spec(&[("a.mp4", output)], ""), &root).unwrap_err().to_string();
            has(&text, &["error: the output cannot be used as a folder", reason]);
        }
        fs::create_dir(root.join("folder")).unwrap();
        assert!(read_at(&spec(&[("a.mp4", "folder")], ""), &root).is_ok());
    }

    #[test]
    fn links_hide_nothing() {
        let (_guard, root) = folder();
        for made in ["media", "dist", "elsewhere"] {
            fs::create_dir(root.join(made)).unwrap();
        }
        symlink("media", root.join("out")).unwrap();
        symlink(".", root.join("here")).unwrap();
        symlink(root.join("elsewhere"), root.join("dist/b")).unwrap();
        let real = |name: &str| format!("through symbolic links `{}", root.join(name).display());
        let refused = |titles: &[(&str, &str)], parts: &[&str]| {
            has(&read_at(&spec(titles, ""), &root).unwrap_err().to_string(), parts);
        };
        refused(&[("media/a.mp4", "out")], &["the output contains its source", &real("media")]);
        refused(&[("out/a.mp4", "media")], &["the output contains its source", &real("media/a.mp4")]);
        refused(&[("media/a.mp4", "here")], &["contains the spec"]);
        refused(
            &[("a.mp4", "dist"), ("a.mp4", "here/dist/new")],
            &["the output is inside the output of another title", &real("dist/new")],
        );
        // By its real path the second is apart, but it stands as an entry of the first.
        refused(
            &[("a.mp4", "dist"), ("a.mp4", "dist/b")],
            &["the output is inside the output of another title"],
        );
    }

    #[test]
    fn many_titles_are_checked_in_time() {
        let title = |n: usize| format!("[[title]]\nname='{n}'\nsource='a/{n}'\noutput='/no/o/{n}'\n");
        let text: String = (0..20_000).map(title).collect();
        assert_eq!(ladder(&(text + TAIL)).titles.len(), 20_000);
    }
}
