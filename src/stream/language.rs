//! Language tags, in the two shapes that a package needs: BCP 47 in playlists, and the three
//! letters of ISO 639-2/T that a media header has room for. Sources name languages in either, and
//! often by the older bibliographic codes of ISO 639-2/B.

use serde::{Deserialize, Serialize};

use std::fmt;

/// A well-formed BCP 47 language tag in the usual case, its language in two letters where it has
/// such a code (RFC 5646 2.2.1): `en`, `pt-BR`, `zh-Hant`, `gsw`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Language(String);

impl Language {
    /// Reads a BCP 47 tag or an ISO 639-2 code, so that `en`, `EN` and `eng` are one language, and
    /// so are `de`, `deu` and `ger`. `None` where the tag is malformed, or says nothing: `und`.
    pub fn new(tag: &str) -> Option<Language> {
        let mut subtags = tag.split('-');
        let primary = subtags.next()?.to_ascii_lowercase();
        let letters = primary.bytes().all(|byte| byte.is_ascii_lowercase());
        if !letters || !(2..=8).contains(&primary.len()) || primary == "und" {
            return None;
        }
        let mut canonical = two_letters(&primary).unwrap_or(&primary).to_owned();
        let mut private = false;
        for subtag in subtags {
            let alphanumeric = subtag.bytes().all(|byte| byte.is_ascii_alphanumeric());
            if !alphanumeric || !(1..=8).contains(&subtag.len()) {
                return None;
            }
            let mut subtag = subtag.to_ascii_lowercase();
            // A region is written in capitals, a script with a capital (RFC 5646 2.1.1).
            match subtag.len() {
                1 => private = true,
                2 if !private => subtag.make_ascii_uppercase(),
                4 if !private => subtag[..1].make_ascii_uppercase(),
                _ => {}
            }
            canonical.push('-');
            canonical.push_str(&subtag);
        }
        Some(Language(canonical))
    }

    /// The tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The language alone in ISO 639-2/T, as a media header stores it (ISO/IEC 14496-12 8.4.2);
    /// `und` where it has no such code.
    pub fn iso_639_2(&self) -> &str {
        let primary = self.0.split('-').next().unwrap_or_default();
        match primary.len() {
            3 => primary,
            2 => pairs(TERMINOLOGICAL, 2).find(|(two, _)| *two == primary).map_or("und", |(_, three)| three),
            _ => "und",
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The two-letter code of a three-letter one, of either kind.
fn two_letters(three: &str) -> Option<&'static str> {
    let terminological = pairs(TERMINOLOGICAL, 2).find(|(_, code)| *code == three);
    let bibliographic = pairs(BIBLIOGRAPHIC, 3).find(|(code, _)| *code == three);
    terminological.map(|(two, _)| two).or(bibliographic.map(|(_, two)| two))
}

/// The entries of a table below, each split after `at` letters.
fn pairs(table: &'static str, at: usize) -> impl Iterator<Item = (&'static str, &'static str)> {
    table.split_ascii_whitespace().map(move |entry| entry.split_at(at))
}

/// Every ISO 639-1 code followed by its ISO 639-2/T code.
const TERMINOLOGICAL: &str = "\
    aaaar ababk aeave afafr akaka amamh anarg arara asasm avava ayaym azaze babak bebel bgbul \
    bhbih bibis bmbam bnben bobod brbre bsbos cacat ceche chcha cocos crcre csces cuchu cvchv \
    cycym dadan dedeu dvdiv dzdzo eeewe elell eneng eoepo esspa etest eueus fafas ffful fifin \
    fjfij fofao frfra fyfry gagle gdgla glglg gngrn guguj gvglv hahau heheb hihin hohmo hrhrv \
    hthat huhun hyhye hzher iaina idind ieile igibo iiiii ikipk ioido isisl itita iuiku jajpn \
    jvjav kakat kgkon kikik kjkua kkkaz klkal kmkhm knkan kokor krkau kskas kukur kvkom kwcor \
    kykir lalat lbltz lglug lilim lnlin lolao ltlit lulub lvlav mgmlg mhmah mimri mkmkd mlmal \
    mnmon mrmar msmsa mtmlt mymya nanau nbnob ndnde nenep ngndo nlnld nnnno nonor nrnbl nvnav \
    nynya ococi ojoji omorm orori ososs papan pipli plpol pspus ptpor quque rmroh rnrun roron \
    rurus rwkin sasan scsrd sdsnd sesme sgsag sisin skslk slslv smsmo snsna sosom sqsqi srsrp \
    ssssw stsot susun svswe swswa tatam tetel tgtgk ththa titir tktuk tltgl tntsn toton trtur \
    tstso tttat twtwi tytah uguig ukukr ururd uzuzb veven vivie vovol wawln wowol xhxho yiyid \
    yoyor zazha zhzho zuzul";

/// Every ISO 639-2/B code that is not also a 639-2/T code, followed by its ISO 639-1 code.
const BIBLIOGRAPHIC: &str = "\
    tibbo czecs welcy gerde greel baqeu perfa frefr armhy iceis geoka maomi macmk mayms burmy \
    dutnl rumro slosk albsq chizh";

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(text: &str) -> Option<String> {
        Language::new(text).map(|language| language.to_string())
    }

    #[test]
    fn one_language_has_one_tag() {
        for (text, expected) in [
            ("en", "en"),
            ("EN", "en"),
            ("eng", "en"),
            ("deu", "de"),
            ("ger", "de"),
            ("gsw", "gsw"),
            ("PT-br", "pt-BR"),
            ("zh-hant-tw", "zh-Hant-TW"),
            ("chi-Hans", "zh-Hans"),
            ("es-419", "es-419"),
            ("en-x-ABCD", "en-x-abcd"),
        ] {
            assert_eq!(tag(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_language_is_none() {
        for text in [
            "",
            "und",
            "UND",
            "e",
            "en_US",
            "en-",
            "-en",
            "e n",
            "e1",
            "en-\"",
            "ä",
            "en-ä",
            "toolonglanguage",
            "en-toolongsubtag",
        ] {
            assert_eq!(tag(text), None, "{text}");
        }
    }

    #[test]
    fn media_headers_get_terminological_codes() {
        for (text, expected) in
            [("ger", "deu"), ("en-US", "eng"), ("gsw", "gsw"), ("sr-Latn", "srp"), ("qq", "und")]
        {
            assert_eq!(Language::new(text).unwrap().iso_639_2(), expected, "{text}");
        }
    }

    #[test]
    fn the_tables_are_whole() {
        assert_eq!(pairs(TERMINOLOGICAL, 2).count(), 184);
        assert_eq!(pairs(BIBLIOGRAPHIC, 3).count(), 20);
        for (two, three) in pairs(TERMINOLOGICAL, 2) {
            assert_eq!((two.len(), three.len()), (2, 3));
            assert_eq!(Language::new(three).unwrap().as_str(), two);
            assert_eq!(Language::new(two).unwrap().iso_639_2(), three);
        }
        for (three, two) in pairs(BIBLIOGRAPHIC, 3) {
            assert_eq!(Language::new(three).unwrap().as_str(), two);
        }
    }
}
