//! Reads the whole file, table by table, and holds the tables against each other.
//! The order here is that of dependence; problems are sorted into the order of the file later.

use toml::de::DeTable;

use super::fault::OptionCheck;
use super::fields::Fields;
use super::keys;
use super::ladder::{CacheSpec, Ladder};
use super::names::Names;
use super::outputs::{self, Claim};
use super::paths::BaseDir;
use super::problems::{Problems, Read};
use super::{audio, cache, package, segments, title, video};

pub(super) fn read(
    tree: &DeTable<'_>,
    base: &BaseDir,
    check: OptionCheck<'_>,
    problems: &mut Problems,
) -> Read<Ladder> {
    let mut root = Fields::new(&keys::ROOT, 0..0, tree);
    let mut names = Names::of_renditions();
    // Every table is read before the first `?`, so that all problems come to light.
    let titles = title::read(&mut root, base, problems);
    let segments = segments::read(&mut root, problems);
    let rungs = video::read(&mut root, &mut names, check, problems);
    let audio = audio::read(&mut root, &mut names, problems);
    let package = package::read(&mut root, problems);
    let cache = cache::read(&mut root, base, problems);
    root.finish(problems);
    names.finish(problems);

    let titles = titles?;
    let right: Vec<&Claim> = titles.iter().flatten().collect();
    let cache_folder = cache.as_ref().ok().and_then(|cache| cache.dir.as_ref());
    outputs::check(&right, cache_folder, base, problems);

    let cache = cache?;
    Ok(Ladder {
        path: base.spec.clone(),
        named: base.spec.clone(),
        text: String::new(),
        titles: titles.into_iter().map(|claim| claim.map(Claim::into_title)).collect::<Read<_>>()?,
        segments: segments?,
        rungs: rungs?,
        audio: audio?,
        package: package?,
        cache: CacheSpec {
            dir: cache.dir.map(|folder| folder.path.written),
            remote: cache.remote,
            trusted_keys: cache.trusted_keys,
        },
    })
}
