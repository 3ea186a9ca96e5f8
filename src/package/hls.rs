//! HLS playlists for on-demand streams of fragmented MP4 (RFC 8216, protocol version 7). Writes
//! what it is told about the segments; it neither reads nor measures them. The same input gives
//! the same text, attribute for attribute.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::bandwidth::{SegmentSize, average_bandwidth, peak_bandwidth};
use super::path::RelPath;
use crate::media::{Colour, Rational};
use crate::stream::{Medium, Role, Track};

/// The protocol version that `EXT-X-MAP` outside I-frame playlists and fMP4 segments ask for
/// (RFC 8216 7).
const VERSION: u32 = 7;

/// The group that all audio renditions are in.
const AUDIO_GROUP: &str = "audio";

/// A media playlist: one rung or one audio rendition.
#[derive(Clone, Copy, Debug)]
pub struct MediaPlaylist<'a> {
    /// Ticks a second of the segments' durations.
    pub timescale: u32,
    /// Seconds, as [`target_duration`] gives it for the playlists of the package together.
    pub target_duration: u64,
    /// The initialization segment, relative to the playlist.
    pub init: &'a RelPath,
    pub segments: &'a [PlaylistSegment],
}

/// A segment of a [`MediaPlaylist`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaylistSegment {
    /// Relative to the playlist.
    pub path: RelPath,
    /// Ticks.
    pub duration: u64,
}

/// The target duration, in seconds, of a track whose segments last so many ticks: the smallest
/// that no `EXTINF` rounds above (RFC 8216 4.3.3.1).
///
/// All media playlists of a package must name the same one (RFC 8216 6.2.4, Apple HLS authoring
/// 8.2): give each the largest of those of its tracks.
pub fn target_duration(timescale: u32, durations: impl IntoIterator<Item = u64>) -> u64 {
    let longest = extinf_microseconds(timescale, durations).max().unwrap_or(0);
    ((longest + 500_000) / 1_000_000).max(1)
}

/// The text of a media playlist.
pub fn media_playlist(playlist: &MediaPlaylist<'_>) -> String {
    let durations = || playlist.segments.iter().map(|segment| segment.duration);
    let target = target_duration(playlist.timescale, durations()).max(playlist.target_duration);
    let mut text = format!(
        "#EXTM3U\n\
         #EXT-X-VERSION:{VERSION}\n\
         #EXT-X-TARGETDURATION:{target}\n\
         #EXT-X-MEDIA-SEQUENCE:0\n\
         #EXT-X-PLAYLIST-TYPE:VOD\n\
         #EXT-X-INDEPENDENT-SEGMENTS\n\
         #EXT-X-MAP:URI=\"{}\"\n",
        playlist.init.uri()
    );
    let extinf = extinf_microseconds(playlist.timescale, durations());
    for (segment, micros) in playlist.segments.iter().zip(extinf) {
        let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
        line(&mut text, format_args!("#EXTINF:{seconds}.{micros:06},"));
        line(&mut text, format_args!("{}", segment.path.uri()));
    }
    text.push_str("#EXT-X-ENDLIST\n");
    text
}

/// What each `EXTINF` says, in microseconds: the rounded end of its segment less the rounded
/// start. Their sum is thus never off by more than the rounding of one time, however many there
/// are, where rounding each duration would drift.
fn extinf_microseconds(
    timescale: u32,
    durations: impl IntoIterator<Item = u64>,
) -> impl Iterator<Item = u64> {
    let timescale = u128::from(timescale.max(1));
    let rounded = move |ticks: u128| (ticks * 1_000_000 + timescale / 2) / timescale;
    let mut start = 0u128;
    durations.into_iter().map(move |duration| {
        let end = start + u128::from(duration);
        let micros = rounded(end) - rounded(start);
        start = end;
        u64::try_from(micros).unwrap_or(u64::MAX)
    })
}

/// A rendition as the multivariant playlist lists it: a rung, or an alternative for the ear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendition {
    /// Its media playlist, relative to the multivariant one.
    pub playlist: RelPath,
    /// For a person to choose by; no two audio renditions may have the same.
    pub name: String,
    pub track: Track,
    /// Of its own segments. A rung's audio is added when it is listed.
    pub bandwidth: Bandwidth,
}

/// Measured bit rates of a media playlist, in bits a second (RFC 8216 4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bandwidth {
    pub peak: u64,
    pub average: u64,
}

impl Bandwidth {
    /// Measures a playlist; `target_duration` is in seconds.
    pub fn measure(segments: &[SegmentSize], timescale: u32, target_duration: u64) -> Bandwidth {
        Bandwidth {
            peak: peak_bandwidth(segments, timescale, target_duration),
            average: average_bandwidth(segments, timescale),
        }
    }
}

/// The `VIDEO-RANGE` of a variant (draft-pantos-hls-rfc8216bis 4.4.6.2).
#[derive(Clone, Copy)]
enum VideoRange {
    Sdr,
    Hlg,
    Pq,
}

impl VideoRange {
    fn of(colour: &Colour) -> VideoRange {
        match colour.transfer {
            16 => VideoRange::Pq,
            18 => VideoRange::Hlg,
            _ => VideoRange::Sdr,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            VideoRange::Sdr => "SDR",
            VideoRange::Hlg => "HLG",
            VideoRange::Pq => "PQ",
        }
    }
}

/// A playlist that HLS has no way to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HlsError {
    #[error("two audio renditions are named {0:?}; a player shows the names to tell them apart")]
    DuplicateName(String),
    #[error("{0:?} has a quote or a control character, which a playlist cannot carry")]
    Unquotable(String),
}

/// The text of a multivariant playlist: the entry of the package.
///
/// Rungs are listed in the order in which they come. A client starts with the first before it knows its
/// bandwidth, so that a middling one belongs there rather than the best (Apple's HLS authoring specification
/// asks for about 2 Mbit/s).
///
/// All audio renditions are in one group, also where they differ in channels or codec: groups
/// would have to have the same members in different encodings (RFC 8216 4.3.4.1.1), and a
/// rendition of its own name is no other encoding. `CODECS` then lists every format of the group,
/// and `BANDWIDTH` counts its largest rendition, since any may be played.
pub fn multivariant_playlist(renditions: &[Rendition]) -> Result<String, HlsError> {
    let mut text = format!("#EXTM3U\n#EXT-X-VERSION:{VERSION}\n#EXT-X-INDEPENDENT-SEGMENTS\n");
    let audio: Vec<(&Rendition, u8)> = renditions
        .iter()
        .filter_map(|rendition| match rendition.track.medium {
            Medium::Audio { channels, .. } => Some((rendition, channels)),
            Medium::Video { .. } => None,
        })
        .collect();
    let mut names = BTreeSet::new();
    let mut languages = BTreeSet::new();
    for (rendition, channels) in &audio {
        if !names.insert(&rendition.name) {
            return Err(HlsError::DuplicateName(rendition.name.clone()));
        }
        // A player picks by itself among renditions that it can tell apart: the first of each
        // language (RFC 8216 4.3.4.1.1).
        let autoselect = languages.insert(&rendition.track.language);
        write_audio(&mut text, rendition, *channels, autoselect)?;
    }
    let audio_peak = audio.iter().map(|(rendition, _)| rendition.bandwidth.peak).max();
    let audio_average = audio.iter().map(|(rendition, _)| rendition.bandwidth.average).max();
    for rendition in renditions {
        let Medium::Video { width, height, colour, frame_rate: rate } = &rendition.track.medium else {
            continue;
        };
        let mut codecs = vec![rendition.track.codecs.as_str()];
        for (audio, _) in &audio {
            if !codecs.contains(&audio.track.codecs.as_str()) {
                codecs.push(&audio.track.codecs);
            }
        }
        let mut attributes = Attributes::default();
        let Bandwidth { peak, average } = rendition.bandwidth;
        attributes.plain("BANDWIDTH", peak.saturating_add(audio_peak.unwrap_or(0)));
        attributes.plain("AVERAGE-BANDWIDTH", average.saturating_add(audio_average.unwrap_or(0)));
        attributes.quoted("CODECS", &codecs.join(","))?;
        attributes.plain("RESOLUTION", format_args!("{width}x{height}"));
        attributes.plain("FRAME-RATE", frame_rate(*rate));
        attributes.plain("VIDEO-RANGE", VideoRange::of(colour).as_str());
        if !audio.is_empty() {
            attributes.quoted("AUDIO", AUDIO_GROUP)?;
        }
        // Encoding again drops captions carried in the source's pictures; without this, Apple's
        // players offer captions that are not there.
        attributes.plain("CLOSED-CAPTIONS", "NONE");
        line(&mut text, format_args!("#EXT-X-STREAM-INF:{}", attributes.0));
        line(&mut text, format_args!("{}", rendition.playlist.uri()));
    }
    Ok(text)
}

fn write_audio(
    text: &mut String,
    rendition: &Rendition,
    channels: u8,
    autoselect: bool,
) -> Result<(), HlsError> {
    let yes_no = |yes: bool| if yes { "YES" } else { "NO" };
    let is_default = rendition.track.role == Role::Main;
    let mut attributes = Attributes::default();
    attributes.plain("TYPE", "AUDIO");
    attributes.quoted("GROUP-ID", AUDIO_GROUP)?;
    attributes.quoted("NAME", &rendition.name)?;
    if let Some(language) = &rendition.track.language {
        attributes.quoted("LANGUAGE", language.as_str())?;
    }
    attributes.plain("DEFAULT", yes_no(is_default));
    // What is the default must also be picked by itself (RFC 8216 4.3.4.1).
    attributes.plain("AUTOSELECT", yes_no(autoselect || is_default));
    attributes.quoted("CHANNELS", &channels.to_string())?;
    attributes.quoted("URI", &rendition.playlist.uri())?;
    line(text, format_args!("#EXT-X-MEDIA:{}", attributes.0));
    Ok(())
}

/// An attribute list (RFC 8216 4.2).
#[derive(Default)]
struct Attributes(String);

impl Attributes {
    fn plain(&mut self, name: &str, value: impl std::fmt::Display) {
        let separator = if self.0.is_empty() { "" } else { "," };
        // Writing to a string cannot fail.
        let _ = write!(self.0, "{separator}{name}={value}");
    }

    /// A quoted string has no escapes: what would end it, or its line, is refused.
    fn quoted(&mut self, name: &str, value: &str) -> Result<(), HlsError> {
        if value.contains(|c: char| c == '"' || c.is_control()) {
            return Err(HlsError::Unquotable(value.to_owned()));
        }
        self.plain(name, format_args!("\"{value}\""));
        Ok(())
    }
}

/// Frames a second to three decimals, rounded, as `FRAME-RATE` wants them (RFC 8216 4.3.4.2).
fn frame_rate(rate: Rational) -> String {
    let (num, den) = (u128::from(rate.num), u128::from(rate.den.max(1)));
    let thousandths = (2000 * num + den) / (2 * den);
    format!("{}.{:03}", thousandths / 1000, thousandths % 1000)
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests;
