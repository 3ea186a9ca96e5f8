//! Finds the word that was meant: "did you mean".
//! Small and pure; it does not know what the words stand for, nor prints anything.
//! A slip is an insertion, a deletion, a replacement or a swap of two neighbours (optimal string alignment).

use strsim::osa_distance;

/// Words longer than this are no misspelling of a key.
const MAX_WORD: usize = 40;

/// The candidate nearest to `word`, if it is near enough to be what was meant.
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    if word.chars().count() > MAX_WORD {
        return None;
    }
    let word = folded(word);
    candidates
        .into_iter()
        .map(|candidate| (osa_distance(&word, &folded(candidate)), candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance <= tolerance(&word, candidate))
        .map(|(_, candidate)| candidate)
}

/// The candidate that `word` is but for one slip, or for how its parts are joined. For words that may be
/// right although they are not in the list.
pub fn one_slip_from<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str> + Clone,
) -> Option<&'c str> {
    let is_known = candidates.clone().into_iter().any(|candidate| candidate == word);
    if is_known || word.len() > MAX_WORD {
        return None;
    }
    let folded_word = folded(word);
    candidates.into_iter().find(|candidate| osa_distance(&folded_word, &folded(candidate)) <= 1)
}

/// Case, and how words are joined, are not what a person gets wrong about a key's meaning.
fn folded(word: &str) -> String {
    word.chars().filter(|c| !matches!(c, '-' | '_' | ' ')).flat_map(char::to_lowercase).collect()
}

/// One slip in a short word, one more for every three letters.
fn tolerance(word: &str, candidate: &str) -> usize {
    match word.chars().count().max(candidate.len()) {
        0..=2 => 0,
        3..=5 => 1,
        length => length / 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let keys = ["name", "width", "height", "crf", "bit_depth"];
        assert_eq!(nearest("hieght", keys), Some("height"));
        assert_eq!(nearest("heights", keys), Some("height"));
        assert_eq!(nearest("bit-depth", keys), Some("bit_depth"));
        assert_eq!(nearest("BitDepth", keys), Some("bit_depth"));
        assert_eq!(nearest("cfr", keys), Some("crf"));
        assert_eq!(nearest("heigt", keys), Some("height"));
        assert_eq!(nearest("heiight", keys), Some("height"));
        assert_eq!(nearest("größe", ["grösse", "größen"]), Some("größen"));
        assert_eq!(nearest("HLS", ["hls"]), Some("hls"));
    }

    #[test]
    fn one_slip_is_told_from_another_word() {
        let names = ["libaom-av1", "av1_mf", "av1_amf"];
        assert_eq!(one_slip_from("libaom_av1", names), Some("libaom-av1"));
        assert_eq!(one_slip_from("libam-av1", names), Some("libaom-av1"));
        assert_eq!(one_slip_from("av1_mf", names), None);
        assert_eq!(one_slip_from("av1_amf", names), None);
        assert_eq!(one_slip_from("libfoo-av1", names), None);
        assert_eq!(one_slip_from("av1_oh", names), None);
    }

    #[test]
    fn stays_silent_when_nothing_is_near() {
        let keys = ["name", "width", "height", "crf"];
        assert_eq!(nearest("bitrate", keys), None);
        assert_eq!(nearest("fps", keys), None);
        assert_eq!(nearest("", keys), None);
        assert_eq!(nearest("x", ["y"]), None);
        assert_eq!(nearest("name", []), None);
        assert_eq!(nearest(&"height".repeat(1000), keys), None);
    }
}
