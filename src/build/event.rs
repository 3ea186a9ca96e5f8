//! What a build tells as it goes, and what it says at the end. Written out as JSON lines by
//! `--events`; the last one is the summary.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cache::RemoteReport;
use crate::steps::{EncodeWork, Kind, StandsFor};

/// Where a step's result came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    Ran,
    Cached,
}

/// What happens in a build, as it happens.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A step begins to run.
    Started {
        title: String,
        kind: Kind,
        node: String,
    },
    /// A step has been waiting for over a second for another process that is at it and shares the
    /// cache.
    Waiting {
        title: String,
        kind: Kind,
        node: String,
    },
    /// A step has its result.
    Finished {
        title: String,
        kind: Kind,
        node: String,
        origin: Origin,
        #[serde(flatten)]
        run: Run,
        /// Of an encode, how much it was.
        #[serde(skip_serializing_if = "Option::is_none")]
        encode: Option<EncodeWork>,
        /// Of a pack that was found in the cache, the steps that have no events of their own because of that.
        #[serde(skip_serializing_if = "Option::is_none")]
        stands_for: Option<StandsFor>,
    },
    Failed {
        title: String,
        kind: Kind,
        node: String,
        message: String,
        hint: Option<String>,
    },
    /// How much there is to encode of a title if nothing is in the cache: by what the container says once
    /// the source is indexed, and again once the frames' times are fixed. A later one replaces an earlier
    /// one, and what was finished of the title before it counts no more.
    Totals {
        title: String,
        rungs: u64,
        seconds: f64,
        /// Luma samples of all frames on all rungs.
        samples: u64,
    },
    /// All chunks of a title are known.
    Chunked {
        title: String,
        chunks: u64,
    },
    /// How busy the build is; told only where it was asked for.
    Gauges {
        /// Since the build began.
        #[serde(rename = "at_ms", with = "millis")]
        at: Duration,
        /// Steps that wait for a slot or memory, and that run.
        queued: u64,
        running: u64,
        /// Bytes of frames and encoders.
        memory: u64,
        /// Keys looked up in the cache so far, and found.
        looked_up: u64,
        found: u64,
    },
    /// All is made, and results are still on their way to the remote cache.
    Storing {
        /// Entries that are not there yet.
        left: usize,
    },
    /// Something worth knowing that is no failure.
    Warning {
        title: String,
        message: String,
    },
    Summary(Box<Summary>),
}

/// When and where a step ran; of one that was found in the cache, all zero.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Run {
    /// Which of the build's slots it ran in, from 0.
    pub slot: usize,
    /// Since the build began.
    #[serde(rename = "start_ms", with = "millis")]
    pub start: Duration,
    #[serde(rename = "wall_ms", with = "millis")]
    pub wall: Duration,
}

/// Durations as whole milliseconds.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

/// How many steps of a kind ran, were found in the cache, or failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub ran: u64,
    pub cached: u64,
    pub failed: u64,
}

/// What came of a build.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Summary {
    /// Steps by their kind.
    pub nodes: BTreeMap<Kind, Counts>,
    pub wall_seconds: f64,
    /// User and system time of this process, and of those that it has started here.
    pub cpu_seconds: f64,
    /// Pictures that were decoded, those counted twice that were decoded twice.
    pub decoded_frames: u64,
    /// Spans that GPUs decoded.
    pub spans_on_gpus: u64,
    /// What came of the remote cache, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<RemoteReport>,
    pub titles: Vec<TitleSummary>,
    pub failures: Vec<FailureReport>,
    pub interrupted: bool,
}

impl Summary {
    /// Whether every title was published.
    pub fn succeeded(&self) -> bool {
        self.failures.is_empty() && !self.interrupted
    }
}

/// A step that failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FailureReport {
    pub title: String,
    pub node: String,
    pub message: String,
    pub hint: Option<String>,
}

/// Which step failed, and why.
impl fmt::Display for FailureReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.title, self.node, self.message)
    }
}

/// A published title.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TitleSummary {
    pub name: String,
    /// Path of the multivariant playlist, for people to read.
    pub entry: String,
    /// Length of the picture.
    pub seconds: f64,
    pub rungs: Vec<TrackSummary>,
    pub audio: Vec<TrackSummary>,
}

/// One rung or rendition as published.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TrackSummary {
    pub name: String,
    /// Width and height of the picture; `None` for sound.
    pub size: Option<(u32, u32)>,
    /// RFC 6381.
    pub codecs: String,
    pub segments: u64,
    /// Of those, how many were encoded in this build.
    pub encoded: u64,
    pub bytes: u64,
    /// Bits a second over the whole length, container included.
    pub average: u64,
    /// Bits a second of the busiest stretch.
    pub peak: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each kind, with all that it may hold.
    fn all_events() -> Vec<Event> {
        let title = || "bunny".to_owned();
        let (kind, node, message) = (Kind::Encode, "720p/12".to_owned(), "no space left".to_owned());
        let hint = Some("free some".to_owned());
        let run = Run { slot: 3, start: Duration::from_millis(1500), wall: Duration::from_millis(20) };
        let track = TrackSummary {
            name: "720p".to_owned(),
            size: Some((1280, 720)),
            codecs: "av01.0.05M.08".to_owned(),
            segments: 9,
            encoded: 1,
            bytes: 1 << 40,
            average: 2_000_000,
            peak: 3_000_000,
        };
        let summary = Summary {
            nodes: Kind::ALL
                .into_iter()
                .map(|kind| (kind, Counts { ran: 2, cached: 7, failed: 1 }))
                .collect(),
            wall_seconds: 12.25,
            remote: Some(RemoteReport {
                rejected: BTreeMap::from([("unknown key".into(), 62)]),
                ..RemoteReport::default()
            }),
            titles: vec![TitleSummary {
                name: String::new(),
                entry: String::new(),
                seconds: 0.0,
                rungs: vec![track.clone()],
                audio: vec![track],
            }],
            failures: vec![FailureReport {
                title: title(),
                node: node.clone(),
                message: message.clone(),
                hint: None,
            }],
            interrupted: true,
            ..Summary::default()
        };
        vec![
            Event::Started { title: title(), kind, node: node.clone() },
            Event::Waiting { title: title(), kind, node: node.clone() },
            Event::Finished {
                title: title(),
                kind,
                node: node.clone(),
                origin: Origin::Ran,
                run,
                encode: Some(EncodeWork { seconds: 1.5, samples: 33_177_600 }),
                stands_for: Some(StandsFor {
                    steps: [(kind, 1)].into(),
                    encode: Some(EncodeWork::default()),
                }),
            },
            Event::Failed { title: title(), kind, node, message: message.clone(), hint },
            Event::Totals { title: title(), rungs: 3, seconds: 5.28, samples: 121_651_200 },
            Event::Chunked { title: title(), chunks: 4 },
            Event::Gauges {
                at: Duration::from_millis(250),
                queued: 5,
                running: 4,
                memory: 1 << 30,
                looked_up: 20,
                found: 16,
            },
            Event::Storing { left: 8 },
            Event::Warning { title: title(), message },
            Event::Summary(Box::new(summary)),
        ]
    }

    #[test]
    fn events_are_read_as_they_were_written() {
        for event in all_events() {
            let line = serde_json::to_string(&event).unwrap();
            let read: Event = serde_json::from_str(&line).unwrap();
            assert_eq!(format!("{read:?}"), format!("{event:?}"));
        }
    }

    /// The names of all fields, and of the event.
    fn names(json: &serde_json::Value, names: &mut Vec<String>) {
        match json {
            serde_json::Value::Object(fields) => {
                names.extend(fields.keys().cloned());
                names.extend(fields.get("event").and_then(|name| name.as_str()).map(str::to_owned));
                fields.values().for_each(|value| self::names(value, names));
            }
            serde_json::Value::Array(values) => values.iter().for_each(|value| self::names(value, names)),
            _ => {}
        }
    }

    #[test]
    fn the_documentation_tells_of_every_event_and_field() {
        // A new kind of event does not compile here until it has a number, and then one is missing above.
        let number = |event: &Event| match event {
            Event::Started { .. } => 0,
            Event::Waiting { .. } => 1,
            Event::Finished { .. } => 2,
            Event::Failed { .. } => 3,
            Event::Totals { .. } => 4,
            Event::Chunked { .. } => 5,
            Event::Gauges { .. } => 6,
            Event::Storing { .. } => 7,
            Event::Warning { .. } => 8,
            Event::Summary(_) => 9,
        };
        let events = all_events();
        assert_eq!(events.iter().map(number).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
        let told: Vec<&str> = include_str!("../../docs/events.md").split('`').skip(1).step_by(2).collect();
        let mut all = Vec::new();
        events.iter().for_each(|event| names(&serde_json::to_value(event).unwrap(), &mut all));
        for name in all {
            assert!(told.contains(&name.as_str()), "docs/events.md says nothing of `{name}`");
        }
    }

    #[test]
    fn a_summary_names_every_kind() {
        let nodes = Kind::ALL.into_iter().map(|kind| (kind, Counts::default())).collect();
        let event = Event::Summary(Box::new(Summary { nodes, ..Summary::default() }));
        let json: serde_json::Value = serde_json::to_value(&event).unwrap();
        assert_eq!(json["event"], "summary");
        for kind in Kind::ALL {
            assert_eq!(json["nodes"][kind.name()], serde_json::json!({"ran": 0, "cached": 0, "failed": 0}));
        }
    }
}
