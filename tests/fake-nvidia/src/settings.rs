//! What the machine is like, and how it misbehaves: the words of `FAKE_NVIDIA`, such as
//! `gpus=2 engines=3 lose=5 faulty=1`.

use std::fs::File;
use std::sync::{LazyLock, OnceLock};

use crate::journal;

pub struct Settings {
    /// `gpus`: how many there are.
    pub gpus: i32,
    /// `memory`: bytes that each has.
    pub memory: usize,
    /// `engines`: encode engines of each; with 0 it has no encoder, as an H100.
    pub engines: i32,
    /// `decoders`: decode engines of each, which say that they decode H.264 and decline it.
    pub decoders: u8,
    /// `sessions`: how many may be open at a time, on all GPUs and in all processes together, as on a
    /// GeForce.
    pub sessions: usize,
    /// `api`: the newest version of the encode API that is spoken, e.g. `11.1`.
    pub api: (u32, u32),
    /// `no-av1`: other codecs only.
    pub av1: bool,
    /// `no-10-bit`.
    pub ten_bit: bool,
    /// `b-frames`: how many may stand in a row.
    pub b_frames: i32,
    /// `highest-level`: the highest `seq_level_idx` that it takes; levels are not among what it says of itself.
    pub highest_level: u32,
    /// What goes wrong in every session, of the GPU `faulty` if one is named.
    fault: Option<Fault>,
    faulty: Option<i32>,
    /// `processes`: it goes wrong only in so many of those that encode, the first ones.
    processes: Option<usize>,
}

/// Misbehaviour. Numbers are of a session's pictures, from 0.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `hang`: the call for this picture never returns.
    Hang(u64),
    /// `abort`: the process ends at this picture, as when a driver crashes.
    Abort(u64),
    /// `lose`: at this picture the GPU vanishes.
    Lose(u64),
    /// `no-memory`: this picture finds no memory.
    NoMemory(u64),
    /// `busy`: the encoder asks to be given this picture again, twice.
    Busy(u64),
    /// `starve`: from this picture on, more input is asked for, whatever came.
    Starve(u64),
    /// `empty`: this picture's packet has no bytes.
    Empty(u64),
    /// `late`: this picture's packet says that it is the next one's.
    Late(u64),
    /// `key`: this picture becomes a key frame.
    Key(u64),
    /// `level`: the stream says that it has this level.
    Level(u8),
    /// `high-tier`: the stream says that it is of the High tier.
    HighTier,
    /// `other-colour`: the stream says that its primaries are BT.470 M's.
    OtherColour,
}

pub fn settings() -> &'static Settings {
    static SETTINGS: LazyLock<Settings> =
        LazyLock::new(|| Settings::parse(&std::env::var("FAKE_NVIDIA").unwrap_or_default()));
    &SETTINGS
}

impl Settings {
    /// The fault of a GPU's sessions.
    pub fn fault_of(&self, gpu: i32) -> Option<Fault> {
        let fault = self.fault.filter(|_| self.faulty.is_none_or(|faulty| faulty == gpu));
        fault.filter(|_| self.processes.is_none_or(is_one_of))
    }

    fn parse(text: &str) -> Settings {
        let mut settings = Settings {
            gpus: 1,
            memory: 1 << 30,
            engines: 1,
            decoders: 0,
            sessions: usize::MAX,
            api: (12, 1),
            av1: true,
            ten_bit: true,
            b_frames: 4,
            highest_level: 23,
            fault: None,
            faulty: None,
            processes: None,
        };
        for word in text.split_whitespace() {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let number =
                || value.parse::<u32>().unwrap_or_else(|_| panic!("FAKE_NVIDIA: {word} has no number"));
            let picture = || u64::from(number());
            let mut fault = |fault| settings.fault = Some(fault);
            match name {
                "gpus" => settings.gpus = number() as i32,
                "memory" => settings.memory = number() as usize,
                "engines" => settings.engines = number() as i32,
                "decoders" => settings.decoders = number() as u8,
                "sessions" => settings.sessions = number() as usize,
                "api" => settings.api = version(value),
                "no-av1" => settings.av1 = false,
                "no-10-bit" => settings.ten_bit = false,
                "b-frames" => settings.b_frames = number() as i32,
                "highest-level" => settings.highest_level = number(),
                "faulty" => settings.faulty = Some(number() as i32),
                "processes" => settings.processes = Some(number() as usize),
                "hang" => fault(Fault::Hang(picture())),
                "abort" => fault(Fault::Abort(picture())),
                "lose" => fault(Fault::Lose(picture())),
                "no-memory" => fault(Fault::NoMemory(picture())),
                "busy" => fault(Fault::Busy(picture())),
                "starve" => fault(Fault::Starve(picture())),
                "empty" => fault(Fault::Empty(picture())),
                "late" => fault(Fault::Late(picture())),
                "key" => fault(Fault::Key(picture())),
                "level" => fault(Fault::Level(number() as u8)),
                "high-tier" => fault(Fault::HighTier),
                "other-colour" => fault(Fault::OtherColour),
                _ => panic!("FAKE_NVIDIA: there is no {name}"),
            }
        }
        settings
    }
}

/// Whether this process is one of the first so many that ask.
fn is_one_of(processes: usize) -> bool {
    static IS_ONE: OnceLock<bool> = OnceLock::new();
    let claim = |number| File::create_new(journal::beside(&format!("process-{number}"))).is_ok();
    *IS_ONE.get_or_init(|| (0..processes).any(claim))
}

fn version(text: &str) -> (u32, u32) {
    let parts =
        text.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    parts.unwrap_or_else(|| panic!("FAKE_NVIDIA: {text} is no version"))
}
