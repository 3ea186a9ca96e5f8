//! Paths of the spec: where relative ones start, how they are normalised, which ones overlap.
//! It looks at names, folders and symbolic links; it opens no file and changes nothing.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::entry::Entry;
use super::problems::{Problems, Read, quoted};

/// No file system takes longer paths (`PATH_MAX` of Linux). It also bounds what checking one costs.
const MAX_PATH: usize = 4096;

/// Where relative paths start, and what no output may contain.
#[derive(Debug)]
pub(super) struct BaseDir {
    /// The spec: absolute, normalised. It need not exist.
    pub(super) spec: PathBuf,
    /// Where relative paths start.
    pub(super) folder: PathBuf,
    pub(super) home: Option<PathBuf>,
}

impl BaseDir {
    pub(super) fn of(path: &Path) -> io::Result<BaseDir> {
        let spec = normalized(&std::path::absolute(path)?);
        Ok(BaseDir {
            folder: spec.parent().unwrap_or(&spec).to_owned(),
            spec,
            home: std::env::home_dir().filter(|home| home.is_absolute()),
        })
    }
}

/// A path as written, and with symbolic links resolved.
#[derive(Debug)]
pub(super) struct ResolvedPath {
    pub(super) written: PathBuf,
    /// Symbolic links followed, as far as the path exists.
    pub(super) real: PathBuf,
}

impl ResolvedPath {
    /// `path` is absolute and normalised.
    pub(super) fn new(path: &Path) -> ResolvedPath {
        ResolvedPath { written: path.to_owned(), real: real(path) }
    }

    /// Whether `other` is this folder or lies in it, in either view.
    pub(super) fn holds(&self, other: &ResolvedPath) -> bool {
        other.written.starts_with(&self.written) || other.real.starts_with(&self.real)
    }
}

/// Both views of a path, for rules that must hold in each.
pub(super) const VIEWS: [fn(&ResolvedPath) -> &Path; 2] = [|path| &path.written, |path| &path.real];

/// Reads a path, relative to the spec's folder, as an absolute one.
pub(super) fn read(entry: &Entry<'_>, base: &BaseDir, problems: &mut Problems) -> Read<PathBuf> {
    let text = entry.text(problems)?;
    let problem = if text.is_empty() {
        entry.problem("is empty", "expected a path").help(entry.example())
    } else if let Some(control) = text.chars().find(|c| c.is_control()) {
        entry
            .problem(
                "is not a valid path",
                format!("contains the control character U+{:04X}", u32::from(control)),
            )
            .help("`\\` in double quotes starts an escape; write `/`, or use single quotes")
    } else if text.len() > MAX_PATH {
        entry.problem("is not a valid path", format!("longer than {MAX_PATH} bytes"))
    } else if text == "~" || text.starts_with("~/") {
        entry.problem("starts with `~`", "`~` is not expanded here").help(format!(
            "write the absolute path, or {} for a folder named `~`",
            quoted(&format!("{} = \"./{text}\"", entry.key.name))
        ))
    } else {
        return Ok(normalized(&base.folder.join(text)));
    };
    Err(problems.report(problem))
}

/// Whether a relative path leads above where it starts.
pub(super) fn climbs(path: &Path) -> bool {
    let mut depth = 0usize;
    for component in path.components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::ParentDir if depth == 0 => return true,
            Component::ParentDir => depth -= 1,
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    false
}

/// An absolute path without `.` and `..`; above the root is the root.
pub(super) fn normalized(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

/// Follows symbolic links in the longest part of the path that exists.
fn real(path: &Path) -> PathBuf {
    for ancestor in path.ancestors() {
        if let (Ok(found), Ok(rest)) = (fs::canonicalize(ancestor), path.strip_prefix(ancestor)) {
            // Joining an empty rest would end the path in a separator.
            return match rest.as_os_str().is_empty() {
                true => found,
                false => found.join(rest),
            };
        }
    }
    path.to_owned()
}

/// What stands where a folder is wanted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// This part of the path is something else than a folder.
    NotAFolder(PathBuf),
    /// This part of the path is a symbolic link to nowhere.
    BrokenLink(PathBuf),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, what) = match self {
            Obstacle::NotAFolder(path) => (path, "is a file"),
            Obstacle::BrokenLink(path) => (path, "is a broken symbolic link"),
        };
        write!(f, "{} {what}", quoted(&path.display().to_string()))
    }
}

/// Why no folder can be made at `path`, as far as looking tells.
pub(super) fn obstacle(path: &Path) -> Option<Obstacle> {
    for ancestor in path.ancestors() {
        match fs::metadata(ancestor) {
            Ok(found) if found.is_dir() => return None,
            Ok(_) => return Some(Obstacle::NotAFolder(ancestor.to_owned())),
            Err(_) if fs::symlink_metadata(ancestor).is_ok() => {
                return Some(Obstacle::BrokenLink(ancestor.to_owned()));
            }
            Err(_) => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalising_is_lexical() {
        let plain = |path: &str| normalized(Path::new(path));
        assert_eq!(plain("/a/./b//c/../d/"), Path::new("/a/b/d"));
        assert_eq!(plain("/../../a"), Path::new("/a"));
        assert_eq!(plain("/a/.."), Path::new("/"));
    }

    #[test]
    fn climbing_is_leading_above_the_start() {
        let climbs = |path: &str| climbs(Path::new(path));
        assert!(!climbs("dist/bunny"));
        assert!(!climbs("./dist/../out"));
        assert!(!climbs("dist/.."));
        assert!(climbs(".."));
        assert!(climbs("dist/../../out"));
        assert!(climbs("./../out/dist"));
    }

    #[test]
    fn a_base_folder_is_absolute() {
        let base = BaseDir::of(Path::new("specs/../ladder.toml")).unwrap();
        assert_eq!(base.folder, std::env::current_dir().unwrap());
        assert_eq!(base.spec, base.folder.join("ladder.toml"));
        assert!(BaseDir::of(Path::new("")).is_err());
        assert_eq!(BaseDir::of(Path::new("/")).unwrap().folder, Path::new("/"));
    }

    #[cfg(unix)]
    #[test]
    fn links_are_resolved_as_far_as_the_path_exists() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        fs::create_dir(root.join("media")).unwrap();
        std::os::unix::fs::symlink("media", root.join("link")).unwrap();
        let path = ResolvedPath::new(&root.join("link/new/out"));
        assert_eq!(path.real, root.join("media/new/out"));
        assert_eq!(ResolvedPath::new(&root.join("link")).real, root.join("media"));
        assert!(ResolvedPath::new(&root.join("media")).holds(&path));
        assert!(!path.holds(&ResolvedPath::new(&root.join("media"))));
    }

    #[cfg(unix)]
    #[test]
    fn obstacles_are_files_and_broken_links() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::write(root.join("file"), "").unwrap();
        std::os::unix::fs::symlink("nowhere", root.join("broken")).unwrap();
        std::os::unix::fs::symlink(root, root.join("fine")).unwrap();
        assert_eq!(obstacle(root), None);
        assert_eq!(obstacle(&root.join("new/folder")), None);
        assert_eq!(obstacle(&root.join("fine/new")), None);
        let file = Some(Obstacle::NotAFolder(root.join("file")));
        assert_eq!(obstacle(&root.join("file")), file);
        assert_eq!(obstacle(&root.join("file/below")), file);
        assert_eq!(obstacle(&root.join("broken/below")), Some(Obstacle::BrokenLink(root.join("broken"))));
    }
}
