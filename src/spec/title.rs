//! Reads `[title]`, or every `[[title]]`: what is made, from what, and where it goes.
//! Each title by itself; rules between titles are in `outputs`.

use std::path::Path;

use toml::de::DeValue;

use super::entry::Entry;
use super::fields::Fields;
use super::keys;
use super::names::Names;
use super::outputs::{Claim, Located};
use super::paths::{self, BaseDir, ResolvedPath};
use super::problems::{Diagnostic, Problems, Read, Reported, quoted};

/// Reads all titles. The valid ones are checked against each other even if one is invalid.
pub(super) fn read(root: &mut Fields<'_>, base: &BaseDir, problems: &mut Problems) -> Read<Vec<Read<Claim>>> {
    let entry = root.entry("title");
    let tables = match &entry {
        None => Vec::new(),
        Some(entry) => match entry.value {
            DeValue::Table(entries) => {
                let fields = Fields::new(&keys::TITLE, entry.span.clone(), entries);
                return Ok(vec![single(fields, base, problems)]);
            }
            DeValue::Array(_) => entry.tables(&keys::TITLES, problems)?,
            _ => return Err(entry.not("a table", problems)),
        },
    };
    if tables.is_empty() {
        return Err(problems.report(
            Diagnostic::new("missing table `[title]`")
                .help("add one:\n[title]\nsource = \"media/bunny.mp4\"\noutput = \"dist/bunny\""),
        ));
    }
    let mut names = Names::of_titles();
    let titles = tables.into_iter().map(|fields| one_of_many(fields, &mut names, base, problems)).collect();
    names.finish(problems);
    Ok(titles)
}

/// `[title]`, which may go without a name.
fn single(mut fields: Fields<'_>, base: &BaseDir, problems: &mut Problems) -> Read<Claim> {
    let name = fields.optional("name", |entry| Names::of_titles().free_name(&entry, problems));
    let source = source(&mut fields, base, problems);
    let output = output(&mut fields, base, problems);
    fields.finish(problems);
    let (source, output) = (source?, output?);
    let name = match name? {
        Some(name) => name,
        None => stem(&source.path.written),
    };
    Ok(Claim { name, source, output })
}

/// `[[title]]`
fn one_of_many<'t>(
    mut fields: Fields<'t>,
    names: &mut Names<'t>,
    base: &BaseDir,
    problems: &mut Problems,
) -> Read<Claim> {
    let name = match fields.required("name", problems) {
        Ok(entry) => names.free_name(&entry, problems),
        Err(reported) => Err(reported),
    };
    let source = source(&mut fields, base, problems);
    let output = output(&mut fields, base, problems);
    fields.finish(problems);
    Ok(Claim { name: name?, source: source?, output: output? })
}

/// Whether the source exists is not asked here: a spec is right or wrong on every machine.
fn source(fields: &mut Fields<'_>, base: &BaseDir, problems: &mut Problems) -> Read<Located> {
    let entry = fields.required("source", problems)?;
    let path = paths::read(&entry, base, problems)?;
    if path.file_name().is_none() {
        return Err(problems.report(entry.problem("is not a file", "the root folder").help(entry.example())));
    }
    Ok(Located { path: ResolvedPath::new(&path), span: entry.span })
}

fn output(fields: &mut Fields<'_>, base: &BaseDir, problems: &mut Problems) -> Read<Located> {
    let entry = fields.required("output", problems)?;
    let path = paths::read(&entry, base, problems)?;
    let written = Path::new(entry.text(problems)?);
    if written.is_relative() && paths::climbs(written) {
        return Err(climbing(&entry, &path, problems));
    }
    Ok(Located { path: ResolvedPath::new(&path), span: entry.span })
}

/// A spec that is copied elsewhere must not come to own a folder that it never named.
fn climbing(entry: &Entry<'_>, path: &Path, problems: &mut Problems) -> Reported {
    let absolute = format!("output = \"{}\"", path.display());
    problems.report(
        entry
            .problem("is outside the spec's folder", "above the folder of the spec")
            .help(format!("name a folder below it, for example: `{}`", entry.key.example))
            .help(format!("or write an absolute path: {}", quoted(&absolute))),
    )
}

/// The source's file name without its extension.
fn stem(source: &Path) -> String {
    source.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::spec::testing::{TAIL, has, invalid, ladder};

    fn title(lines: &str) -> String {
        format!("[title]\n{lines}\n{TAIL}")
    }

    #[test]
    fn paths_start_at_the_folder_of_the_spec() {
        let ladder = ladder(&title("source = '../media/./a clip.part1.mp4'\noutput = 'dist/../out/'"));
        let [title] = ladder.titles.as_slice() else {
            panic!("one title");
        };
        assert_eq!(title.source, Path::new("/no/media/a clip.part1.mp4"));
        assert_eq!(title.output, Path::new("/no/such/out"));
        assert_eq!(title.name, "a clip.part1");
        assert_eq!(ladder.path, Path::new("/no/such/ladder.toml"));
    }

    #[test]
    fn absolute_paths_are_taken_as_they_are() {
        let ladder =
            ladder(&title("name = 'Big Buck Bunny'\nsource = '/no/media/a.mp4'\noutput = '/no/where/out'"));
        assert_eq!(ladder.titles[0].output, Path::new("/no/where/out"));
        assert_eq!(ladder.titles[0].name, "Big Buck Bunny");
    }

    #[test]
    fn many_titles_need_names_and_each_its_own() {
        let one =
            |name: &str, n: u32| format!("[[title]]\n{name}\nsource = 'a{n}.mp4'\noutput = 'dist/{n}'\n");
        let fine = one("name = 'é a'", 1) + &one("name = 'b'", 2) + TAIL;
        let names: Vec<String> = ladder(&fine).titles.into_iter().map(|t| t.name).collect();
        assert_eq!(names, ["é a", "b"]);
        let text = invalid(&(one("name = 'É'", 1) + &one("", 2) + &one("name = 'é'", 3) + TAIL));
        has(
            &text,
            &[
                "error: missing key `name` in `[[title]]`",
                "^^^^^^^^^ `name` is missing here",
                "help: add `name = \"bunny\"`",
                "error: duplicate name `é`",
                "first used here",
                "rename one; case does not count",
            ],
        );
    }

    #[test]
    fn what_is_missing_is_named_with_an_example() {
        has(
            &invalid(TAIL),
            &[
                "error: missing table `[title]`\n--> ladder.toml",
                "help: add one:\n         [title]\n         source = \"media/bunny.mp4\"",
            ],
        );
        has(
            &invalid(&title("")),
            &[
                "missing key `source` in `[title]`",
                "ladder.toml:1:1",
                "^^^^^^^ `source` is missing here",
                "help: add `source = \"media/bunny.mp4\"`",
                "missing key `output` in `[title]`",
                "help: add `output = \"dist/bunny\"`",
            ],
        );
        has(&invalid(&format!("title = []\n{TAIL}")), &["missing table `[title]`"]);
        has(
            &invalid(&format!("title = 'bunny'\n{TAIL}")),
            &["`title` at the top level must be a table", "found a string"],
        );
    }

    #[test]
    fn names_must_be_fit_to_be_shown() {
        for (name, reason) in [
            ("' '", "empty"),
            ("' a'", "starts or ends with a space"),
            ("\"a\\nb\"", "contains a control character"),
        ] {
            has(
                &invalid(&title(&format!("name = {name}\nsource = 'a'\noutput = 'b'"))),
                &["`name` in `[title]` is not a valid name", reason],
            );
        }
    }

    #[test]
    fn what_cannot_be_a_path() {
        let source = |value: &str| invalid(&title(&format!("source = {value}\noutput = 'b'")));
        has(&source("''"), &["`source` in `[title]` is empty", "for example: `source = "]);
        has(
            &source("\"a\\u0000b\""),
            &["`source` in `[title]` is not a valid path", "the control character U+0000"],
        );
        has(
            &source("\"media\\bunny.mp4\""),
            &["the control character U+0008", "write `/`, or use single quotes"],
        );
        has(
            &source(&format!("'{}'", "x/".repeat(3000))),
            &["`source` in `[title]` is not a valid path", "longer than 4096 bytes"],
        );
        has(
            &source("'~/a.mp4'"),
            &["starts with `~`", "write the absolute path, or `source = \"./~/a.mp4\"`"],
        );
        has(&source("'../../..'"), &["is not a file", "the root folder"]);
        has(&source("7"), &["`source` in `[title]` must be a string", "found an integer"]);
    }

    #[test]
    fn a_relative_output_stays_below_the_spec() {
        has(
            &invalid(&title("source = 'a.mp4'\noutput = 'dist/../../out'")),
            &[
                "error: `output` in `[title]` is outside the spec's folder",
                "ladder.toml:3:10",
                "above the folder of the spec",
                "help: name a folder below it, for example: `output = \"dist/bunny\"`",
                "help: or write an absolute path: `output = \"/no/out\"`",
            ],
        );
    }
}
