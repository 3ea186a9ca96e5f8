//! What an edit costs: a minute of real footage, edited the way an editing program does it (all
//! that was not touched is copied, packet by packet), and how many seconds of it each rung
//! encodes again. Once where every frame stands for itself, once cut and joined at the groups of
//! pictures of an H.264 file.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use common::{BUNNY_5S, BUNNY_30S, Build, FLOWER, FRIDAY, Project, clip, ffmpeg, ffprobe, ladder, published};

const RATE: usize = 30;
/// Two, since what is encoded again shall be the same on every rung.
const RUNGS: &str = "[[rung]]\nname = \"a\"\nheight = 18\n[[rung]]\nname = \"b\"\nheight = 36\n\
                     [[audio]]\nname = \"sound\"\nbitrate = \"64k\"\n";

/// A stretch of a clip: a part of its picture in the shape of 16:9, perhaps turned over, at 1280x720.
#[derive(Clone, Copy)]
struct Excerpt {
    clip: &'static str,
    first: usize,
    frames: usize,
    /// How much of its width is seen, and where in percent of what is left over.
    width: f32,
    left: u32,
    top: u32,
    flip: &'static str,
}

const fn whole(clip: &'static str, first: usize, frames: usize) -> Excerpt {
    Excerpt { clip, first, frames, width: 1.0, left: 50, top: 50, flip: "null" }
}

/// Eleven shots, 1800 frames.
const FILM: [Excerpt; 11] = [
    whole(FLOWER, 0, 150),
    whole(BUNNY_30S, 378, 175),
    whole(BUNNY_30S, 60, 225),
    whole(FRIDAY, 0, 185),
    whole(BUNNY_5S, 0, 132),
    whole(BUNNY_30S, 553, 167),
    whole(BUNNY_30S, 285, 93),
    Excerpt { width: 0.6, left: 30, top: 60, flip: "hflip", ..whole(FLOWER, 0, 150) },
    Excerpt { width: 0.6, left: 80, top: 20, flip: "hflip", ..whole(FRIDAY, 0, 185) },
    Excerpt { width: 0.65, left: 70, top: 90, flip: "hflip", ..whole(BUNNY_30S, 100, 185) },
    Excerpt { width: 0.7, left: 40, top: 20, flip: "hflip", ..whole(BUNNY_30S, 378, 153) },
];
const TOTAL: usize = 1800;

/// Scenes that are not in the film like this, to replace its own and to insert.
const FLOWER_BELOW: Excerpt =
    Excerpt { width: 0.5, left: 90, top: 10, flip: "vflip", ..whole(FLOWER, 0, 150) };
const RABBIT: Excerpt = Excerpt { width: 0.5, left: 20, top: 80, flip: "hflip", ..whole(BUNNY_5S, 0, 132) };
const BIRD: Excerpt = Excerpt { width: 0.5, left: 50, top: 90, flip: "vflip", ..whole(BUNNY_30S, 378, 175) };
const CLOUDS: Excerpt = Excerpt { width: 0.8, left: 50, top: 90, flip: "vflip", ..whole(BUNNY_30S, 60, 225) };
const BURROW: Excerpt =
    Excerpt { width: 0.7, left: 50, top: 50, flip: "hflip", ..whole(BUNNY_30S, 553, 167) };

/// Shots with a title in them, and from which of their frames to which it stands.
const TITLES: [(usize, Range<usize>); 4] = [(1, 40..160), (3, 30..150), (4, 10..120), (8, 50..170)];

/// The film's number of a shot's first frame.
fn start_of(shot: usize) -> usize {
    FILM[..shot].iter().map(|shot| shot.frames).sum()
}

impl Excerpt {
    fn part(self, first: usize, frames: usize) -> Excerpt {
        assert!(first + frames <= self.frames);
        Excerpt { first: self.first + first, frames, ..self }
    }

    fn filter(self, paint: &str) -> String {
        let Excerpt { first, frames, width, left, top, flip, .. } = self;
        format!(
            "trim=start_frame={first}:end_frame={},setpts=N/{RATE}/TB,fps={RATE},\
             crop=iw*{width}:iw*{width}*9/16:(iw-ow)*{left}/100:(ih-oh)*{top}/100,\
             scale=1280:720:flags=bicubic,{flip},format=yuv420p,{paint},setsar=1,\
             setparams=range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709",
            first + frames
        )
    }
}

/// A line of strokes where a title's letters would be.
fn lettering(colour: &str, shown: &Range<i64>) -> String {
    let mut strokes = Vec::new();
    let mut stroke = |x: u32, y: u32, w: u32, h: u32| {
        let enable = format!("between(n,{},{})", shown.start, shown.end - 1);
        strokes.push(format!("drawbox=x={x}:y={y}:w={w}:h={h}:c={colour}:t=fill:enable='{enable}'"));
    };
    for letter in 0..8 {
        let x = 300 + letter * 90;
        stroke(x, 520, 14, 80);
        stroke(x, 520 + letter % 3 * 30, 60, 14);
        if letter % 2 == 1 {
            stroke(x + 46, 520, 14, 80);
        }
    }
    strokes.join(",")
}

/// What is done to the film's own frames.
#[derive(Clone, Copy)]
enum Paint {
    Nothing,
    /// The title in another colour.
    Title(&'static str),
    /// A brighter picture.
    Grade,
    /// One pixel of the first frame.
    Pixel,
}

/// Frames of the film, all of one shot.
fn own(frames: Range<usize>, paint: Paint) -> (Excerpt, String) {
    let shot = (0..FILM.len()).rev().find(|&shot| start_of(shot) <= frames.start).unwrap();
    let first = frames.start - start_of(shot);
    let colour = if let Paint::Title(colour) = paint { colour } else { "white" };
    let mut filters = match TITLES.iter().find(|(with, _)| *with == shot) {
        Some((_, shown)) => {
            let here = |frame: usize| frame as i64 - first as i64;
            vec![lettering(colour, &(here(shown.start)..here(shown.end)))]
        }
        None => vec!["null".to_owned()],
    };
    match paint {
        Paint::Nothing | Paint::Title(_) => {}
        Paint::Grade => filters.push("eq=brightness=0.05:saturation=1.4".to_owned()),
        Paint::Pixel => {
            filters.push("drawbox=x=641:y=361:w=1:h=1:c=red:t=fill:enable='eq(n,0)'".to_owned());
        }
    }
    (FILM[shot].part(first, frames.len()), filters.join(","))
}

enum Piece {
    /// Frames of the film, copied.
    Kept(Range<usize>),
    /// Newly encoded.
    New(Excerpt, String),
}

impl Piece {
    fn frames(&self) -> usize {
        match self {
            Piece::Kept(frames) => frames.len(),
            Piece::New(excerpt, _) => excerpt.frames,
        }
    }
}

/// What a rung may encode again.
enum Limit {
    Seconds(f64),
    Chunks(usize),
    /// All of these frames and no other.
    Exactly(Range<usize>),
}

struct Edit {
    name: String,
    pieces: Vec<Piece>,
    limit: Limit,
    /// Whether what it makes is compared with a build from nothing.
    compared: bool,
}

impl Edit {
    /// Puts `new` in the place of `frames`.
    fn new(name: String, frames: Range<usize>, new: Option<(Excerpt, String)>, limit: Limit) -> Edit {
        let new = new.map(|(excerpt, paint)| Piece::New(excerpt, paint));
        let kept = [Piece::Kept(0..frames.start), Piece::Kept(frames.end..TOTAL)];
        let [before, after] = kept;
        let pieces = [Some(before), new, Some(after)].into_iter().flatten();
        Edit { name, pieces: pieces.filter(|piece| piece.frames() > 0).collect(), limit, compared: false }
    }

    fn replace_3s(at: usize, with: Excerpt) -> Edit {
        let new = Some((with.part(0, 90), "null".to_owned()));
        Edit::new(format!("3 s at {at} replaced"), at..at + 90, new, Limit::Seconds(6.0))
    }

    fn grade_3s(at: usize) -> Edit {
        let new = Some(own(at..at + 90, Paint::Grade));
        Edit::new(format!("3 s at {at} brightened"), at..at + 90, new, Limit::Seconds(6.0))
    }

    fn replace_shot(shot: usize, with: Excerpt) -> Edit {
        let frames = start_of(shot)..start_of(shot) + FILM[shot].frames;
        let new = Some((with.part(0, frames.len()), "null".to_owned()));
        Edit::new(format!("shot {shot} replaced"), frames.clone(), new, Limit::Exactly(frames))
    }

    fn insert_5s(at: usize, what: Excerpt) -> Edit {
        let new = Some((what.part(0, 150), "null".to_owned()));
        Edit::new(format!("5 s inserted at {at}"), at..at, new, Limit::Seconds(8.0))
    }

    /// Three shots by themselves, with five seconds more in one of them: as any insertion, since
    /// nothing depends on the place in a film; and soon built from nothing.
    fn scene() -> Edit {
        let (from, at, to) = (start_of(1), start_of(2) + 60, start_of(4));
        let new = Piece::New(BIRD.part(0, 150), "null".to_owned());
        let pieces = vec![Piece::Kept(from..at), new, Piece::Kept(at..to)];
        let name = format!("shots 1 to 3 with 5 s inserted at {at}");
        Edit { name, pieces, limit: Limit::Seconds(8.0), compared: true }
    }

    fn cut_4s(at: usize) -> Edit {
        Edit::new(format!("4 s at {at} cut out"), at..at + 120, None, Limit::Seconds(6.0))
    }

    /// A second of a shot's title, from this frame of it on.
    fn colour_title(shot: usize, from: usize) -> Edit {
        let (_, shown) = TITLES.iter().find(|(with, _)| *with == shot).unwrap();
        assert!(from + RATE <= shown.len());
        let at = start_of(shot) + shown.start + from;
        let new = Some(own(at..at + RATE, Paint::Title("yellow")));
        Edit::new(format!("a title at {at} coloured"), at..at + RATE, new, Limit::Seconds(3.5))
    }

    /// In H.264 the frame is a group of pictures of its own, or its neighbours would change, too.
    fn pixel(at: usize) -> Edit {
        let new = Some(own(at..at + 1, Paint::Pixel));
        Edit::new(format!("a pixel of frame {at}"), at..at + 1, new, Limit::Chunks(2))
    }

    /// Frames of the new film that are not the old one's.
    fn new_frames(&self) -> usize {
        self.pieces.iter().filter(|piece| matches!(piece, Piece::New(..))).map(Piece::frames).sum()
    }
}

fn edits() -> Vec<Edit> {
    vec![
        Edit::replace_3s(start_of(1) + 40, FLOWER_BELOW),
        Edit::grade_3s(start_of(2) + 90),
        Edit::replace_shot(0, BURROW),
        Edit::replace_shot(6, RABBIT),
        Edit::insert_5s(start_of(3) + 90, CLOUDS),
        Edit::scene(),
        Edit::cut_4s(start_of(1) - 60),
        Edit::cut_4s(start_of(3) - 30),
        Edit::colour_title(1, 30),
        Edit::colour_title(3, 45),
        Edit::colour_title(8, 60),
        Edit::pixel(start_of(1) + 77),
        Edit::pixel(start_of(5) + 100),
        Edit::pixel(start_of(9) + 184),
    ]
}

#[derive(Clone, Copy, PartialEq)]
enum Codec {
    /// ProRes proxy: every frame stands for itself.
    ProRes,
    /// Closed groups of at most two seconds, with B-frames.
    H264,
}

impl Codec {
    fn extension(self) -> &'static str {
        if self == Codec::ProRes { "mov" } else { "mp4" }
    }

    fn options(self) -> Vec<&'static str> {
        match self {
            Codec::ProRes => {
                vec!["-pix_fmt", "yuv422p10le", "-c:v", "prores_ks", "-profile:v", "0", "-q:v", "12"]
            }
            Codec::H264 => {
                vec!["-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-g", "60", "-flags", "+cgop"]
            }
        }
    }

    /// Renders what is to be joined with the film. x264 gives the last frames of a file less delay
    /// than those in the middle of a film have; so a few more are rendered, and left out.
    fn render_piece(self, excerpt: Excerpt, paint: &str, to: &Path) {
        if self == Codec::ProRes {
            return self.render(&[(excerpt, paint.to_owned())], &[], to);
        }
        let longer = to.with_file_name("longer.mp4");
        let paint = format!("{paint},tpad=stop=4:stop_mode=clone");
        self.render(&[(excerpt, paint)], &[excerpt.frames], &longer);
        let (from, frames) = (longer.to_str().unwrap(), excerpt.frames.to_string());
        ffmpeg(&["-i", from, "-c", "copy", "-frames:v", &frames, to.to_str().unwrap()]);
    }

    /// Renders excerpts one after the other. Groups of pictures start at `keys`.
    fn render(self, excerpts: &[(Excerpt, String)], keys: &[usize], to: &Path) {
        let clips: Vec<PathBuf> = excerpts.iter().map(|(excerpt, _)| clip(excerpt.clip)).collect();
        let mut arguments: Vec<&str> = Vec::new();
        for clip in &clips {
            arguments.extend(["-i", clip.to_str().unwrap()]);
        }
        let mut graph = String::new();
        for (number, (excerpt, paint)) in excerpts.iter().enumerate() {
            graph += &format!("[{number}:v]{}[v{number}];", excerpt.filter(paint));
        }
        graph += &(0..excerpts.len()).map(|number| format!("[v{number}]")).collect::<String>();
        graph += &format!("concat=n={}[film]", excerpts.len());
        let seconds: Vec<String> = keys.iter().map(|&key| seconds(key)).collect();
        let seconds = seconds.join(",");
        arguments.extend(["-filter_complex", &graph, "-map", "[film]", "-r", "30", "-an"]);
        arguments.extend(self.options());
        if self == Codec::H264 && !keys.is_empty() {
            arguments.extend(["-force_key_frames", &seconds]);
        }
        arguments.extend(["-video_track_timescale", "15360", "-map_metadata", "-1", to.to_str().unwrap()]);
        ffmpeg(&arguments);
    }
}

fn seconds(frames: usize) -> String {
    format!("{:.6}", frames as f64 / RATE as f64)
}

/// The film, taken apart where the edits need it.
struct Footage {
    codec: Codec,
    parts: Vec<(Range<usize>, PathBuf)>,
    /// Built once; every edit starts from its cache.
    project: Project,
}

impl Footage {
    fn shoot(codec: Codec, edits: &[Edit]) -> Footage {
        let project = Project::new();
        let kept = edits.iter().flat_map(|edit| &edit.pieces).filter_map(|piece| match piece {
            Piece::Kept(frames) => Some(frames),
            Piece::New(..) => None,
        });
        let mut cuts: Vec<usize> = kept.flat_map(|frames| [frames.start, frames.end]).collect();
        cuts.retain(|&cut| cut > 0 && cut < TOTAL);
        cuts.sort();
        cuts.dedup();
        let shots = (0..FILM.len())
            .map(|shot| own(start_of(shot)..start_of(shot) + FILM[shot].frames, Paint::Nothing));
        let film = project.path(&format!("film.{}", codec.extension()));
        codec.render(&shots.collect::<Vec<_>>(), &cuts, &film);

        fs::create_dir(project.path("parts")).unwrap();
        let numbers: Vec<String> = cuts.iter().map(usize::to_string).collect();
        let pattern = project.path(&format!("parts/%03d.{}", codec.extension()));
        #[rustfmt::skip]
        ffmpeg(&[
            "-i", film.to_str().unwrap(), "-c", "copy", "-f", "segment",
            "-segment_frames", &numbers.join(","), "-reset_timestamps", "1",
            "-segment_format_options", "video_track_timescale=15360", pattern.to_str().unwrap(),
        ]);
        fs::remove_file(film).unwrap();
        let starts = [0].iter().chain(&cuts);
        let ends = cuts.iter().chain(&[TOTAL]);
        let parts: Vec<(Range<usize>, PathBuf)> = starts
            .zip(ends)
            .enumerate()
            .map(|(number, (&start, &end))| {
                (start..end, project.path(&format!("parts/{number:03}.{}", codec.extension())))
            })
            .collect();
        let footage = Footage { codec, parts, project };
        for (volume, name) in [("1", "sound"), ("0.5", "other")] {
            let (clip, to) = (clip(BUNNY_30S), footage.sound(name));
            let clip = clip.to_str().unwrap();
            let graph =
                format!("[0:a][1:a]concat=n=2:v=0:a=1,aresample=48000,volume={volume},atrim=end=60[sound]");
            let coding: &[&str] =
                if codec == Codec::ProRes { &["pcm_s16le"] } else { &["aac", "-aac_coder", "fast"] };
            let mut arguments =
                vec!["-i", clip, "-i", clip, "-filter_complex", &graph, "-map", "[sound]", "-c:a"];
            arguments.extend(coding);
            arguments.push(&to);
            ffmpeg(&arguments);
        }
        footage
    }

    fn sound(&self, name: &str) -> String {
        self.project.path(&format!("{name}.mov")).to_str().unwrap().to_owned()
    }

    /// Joins pieces as they are, and adds sound.
    fn join(&self, pieces: &[Piece], sound: &str, to: &Path) {
        let folder = to.parent().unwrap();
        let mut list = String::from("ffconcat version 1.0\n");
        let mut add = |file: &Path, frames: usize| {
            list += &format!("file '{}'\nduration {}\n", file.display(), seconds(frames));
        };
        for (number, piece) in pieces.iter().enumerate() {
            match piece {
                Piece::Kept(frames) => {
                    let within = |part: &Range<usize>| frames.start <= part.start && part.end <= frames.end;
                    for (part, file) in self.parts.iter().filter(|(part, _)| within(part)) {
                        add(file, part.len());
                    }
                }
                Piece::New(excerpt, paint) => {
                    let file = folder.join(format!("new-{number}.{}", self.codec.extension()));
                    self.codec.render_piece(*excerpt, paint, &file);
                    add(&file, excerpt.frames);
                }
            }
        }
        let list_file = folder.join("list.txt");
        fs::write(&list_file, list).unwrap();
        let (list, to, sound) = (list_file.to_str().unwrap(), to.to_str().unwrap(), self.sound(sound));
        #[rustfmt::skip]
        ffmpeg(&[
            "-f", "concat", "-safe", "0", "-i", list, "-i", &sound, "-map", "0:v", "-map", "1:a",
            "-c", "copy", "-video_track_timescale", "15360", to,
        ]);
    }

    /// Builds the film as it is, and after all that changes none of its frames.
    fn build(&self) {
        let source = format!("source.{}", self.codec.extension());
        let film = self.project.path(&source);
        self.join(&[Piece::Kept(0..TOTAL)], "sound", &film);
        self.project.write("ladder.toml", ladder(&source, RUNGS));
        let first = self.project.build();
        let chunks = self.boundaries(&self.project).len() - 1;
        println!("{chunks} chunks of {:.2} s on average", 60.0 / chunks as f64);
        assert_eq!(first.ran("encode"), 2 * chunks as u64, "no two chunks of it are equal");
        assert_eq!(self.project.build().ran_at_all(), 0, "nothing was changed");

        let copy = |to: &str, tags: &[&str]| {
            let to = self.project.path(to);
            let mut arguments = vec!["-i", film.to_str().unwrap(), "-map", "0", "-c", "copy"];
            arguments.extend(tags);
            arguments.push(to.to_str().unwrap());
            ffmpeg(&arguments);
        };
        let encodes_nothing = |source: &str| {
            self.project.write("ladder.toml", ladder(source, RUNGS));
            let build = self.project.build();
            assert_eq!((build.ran("encode"), build.ran("publish")), (0, 0), "{source}");
        };
        let tagged = format!("tagged.{}", self.codec.extension());
        copy(&tagged, &["-metadata", "title=Another", "-metadata", "comment=with tags"]);
        encodes_nothing(&tagged);
        fs::create_dir(self.project.path("moved")).unwrap();
        let moved = format!("moved/{tagged}");
        fs::rename(self.project.path(&tagged), self.project.path(&moved)).unwrap();
        encodes_nothing(&moved);
        fs::remove_file(self.project.path(&moved)).unwrap();
        let containers: &[&str] = if self.codec == Codec::ProRes { &["mkv"] } else { &["mkv", "ts"] };
        for container in containers {
            let remuxed = format!("remuxed.{container}");
            copy(&remuxed, &[]);
            self.project.write("ladder.toml", ladder(&remuxed, RUNGS));
            assert_eq!(self.project.build().ran("encode"), 0, "remuxed to {container}");
            fs::remove_file(self.project.path(&remuxed)).unwrap();
        }

        let dubbed = self.project.path(&format!("dubbed.{}", self.codec.extension()));
        self.join(&[Piece::Kept(0..TOTAL)], "other", &dubbed);
        let name = dubbed.file_name().unwrap().to_str().unwrap();
        self.project.write("ladder.toml", ladder(name, RUNGS));
        let build = self.project.build();
        assert!(build.ran("encode") == 0 && build.ran("audio") > 0, "other sound, the same picture");
        fs::remove_file(dubbed).unwrap();
    }

    /// A project with the edited film, and all that is known of the old one.
    fn edit(&self, edit: &Edit) -> Project {
        let project = Project::new();
        link_folder(&self.project.path("cache"), &project.path("cache"));
        let source = format!("source.{}", self.codec.extension());
        self.join(&edit.pieces, "sound", &project.path(&source));
        project.write("ladder.toml", ladder(&source, RUNGS));
        project
    }

    /// Where chunks start and the film ends, in frames.
    fn boundaries(&self, project: &Project) -> Vec<usize> {
        let mut end = 0.0;
        let mut found = vec![0];
        for (_, seconds) in common::segments(&project.path("out/a/playlist.m3u8")) {
            end += seconds;
            found.push((end * RATE as f64).round() as usize);
        }
        found
    }

    /// Builds the edited film and says what is wrong with what that took.
    fn judge(&self, edit: &Edit, project: &Project) -> Option<String> {
        let build = project.build();
        let boundaries = self.boundaries(project);
        let costs = encoded(&build);
        let chunks: Vec<Range<usize>> = costs
            .get("a")
            .into_iter()
            .flatten()
            .map(|&(number, _)| boundaries[number - 1]..boundaries[number])
            .collect();
        let seconds: BTreeMap<&str, f64> = costs
            .iter()
            .map(|(rung, chunks)| (rung.as_str(), chunks.iter().map(|(_, seconds)| seconds).sum()))
            .collect();
        let within = |seconds: f64, limit: f64| seconds <= limit + 0.001;
        let mut kept = match &edit.limit {
            Limit::Seconds(limit) => seconds.values().all(|&seconds| within(seconds, *limit)),
            Limit::Chunks(limit) => costs.values().all(|chunks| chunks.len() <= *limit),
            Limit::Exactly(frames) => {
                let length = frames.len() as f64 / RATE as f64;
                seconds.values().all(|&seconds| within(seconds, length))
                    && chunks.iter().all(|chunk| frames.start <= chunk.start && chunk.end <= frames.end)
            }
        };
        // An edit that changes nothing proves nothing.
        kept &= seconds.len() == 2;
        // What was decoded again is about what is new, not the film.
        let decodes = build.ran("decode");
        kept &= decodes <= self.most_decodes(edit, project);
        let told = format!(
            "{}: {seconds:.2?} s encoded, frames {chunks:?}; {decodes} of {} spans decoded; audio {}",
            edit.name,
            decodes + build.count("decode", "cached"),
            build.ran("audio")
        );
        println!("{} {told}", if kept { "  " } else { "! " });
        (!kept).then(|| format!("{told}\nold {:?}\nnew {boundaries:?}", self.boundaries(&self.project)))
    }

    fn most_decodes(&self, edit: &Edit, project: &Project) -> u64 {
        match self.codec {
            // Spans of such a film hold a handful of frames, and fall into step again soon.
            Codec::ProRes => edit.new_frames() as u64 / 3 + 8,
            // A joint's neighbours may read differently, nothing else.
            Codec::H264 => files_called(project, "new-").iter().map(|new| key_frames(new)).sum::<u64>() + 2,
        }
    }
}

/// The encodes that ran, for each rung: segment number and seconds.
fn encoded(build: &Build) -> BTreeMap<String, Vec<(usize, f64)>> {
    let mut rungs: BTreeMap<String, Vec<(usize, f64)>> = BTreeMap::new();
    for event in &build.events {
        if event["event"] == "finished" && event["kind"] == "encode" && event["origin"] == "ran" {
            let (rung, number) = event["node"].as_str().unwrap().split_once('/').unwrap();
            let seconds = event["encode"]["seconds"].as_f64().unwrap();
            rungs.entry(rung.to_owned()).or_default().push((number.parse().unwrap(), seconds));
        }
    }
    for chunks in rungs.values_mut() {
        chunks.sort_by_key(|&(number, _)| number);
    }
    rungs
}

/// Nothing in a cache is ever changed in place, so its files can be shared.
fn link_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            link_folder(&entry.path(), &to);
        } else {
            fs::hard_link(entry.path(), to).unwrap();
        }
    }
}

fn files_called(project: &Project, start: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(project.root()).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|file| file.file_name().unwrap().to_str().unwrap().starts_with(start)).collect()
}

fn key_frames(film: &Path) -> u64 {
    let packets = ffprobe(film, &["-select_streams", "v", "-show_entries", "packet=flags"]);
    let packets = packets["packets"].as_array().unwrap();
    packets.iter().filter(|packet| packet["flags"].as_str().unwrap().starts_with('K')).count() as u64
}

/// A digest of every frame, by its place in the film: of its packet, or, as another decoder sees
/// it, of its picture.
fn frames(film: &Path, decoded: bool) -> BTreeMap<usize, String> {
    let mut arguments = vec!["-i", film.to_str().unwrap(), "-map", "0:v"];
    if !decoded {
        arguments.extend(["-c", "copy"]);
    }
    arguments.extend(["-f", "framehash", "-hash", "murmur3", "-"]);
    let text = String::from_utf8(ffmpeg(&arguments)).unwrap();
    let ticks = text.lines().find_map(|line| line.strip_prefix("#tb 0: 1/")).unwrap();
    let ticks: usize = ticks.parse().unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let fields = lines.map(|line| line.split(',').map(str::trim).collect::<Vec<_>>());
    fields.map(|fields| (fields[2].parse::<usize>().unwrap() * RATE / ticks, fields[5].to_owned())).collect()
}

/// All frames that were kept are the frames that were there, each where it belongs.
fn assert_kept_frames_are_the_same(
    old: &BTreeMap<usize, String>,
    new: &BTreeMap<usize, String>,
    edit: &Edit,
) {
    let mut at = 0;
    for piece in &edit.pieces {
        if let Piece::Kept(kept) = piece {
            for (number, frame) in kept.clone().enumerate() {
                assert_eq!(new[&(at + number)], old[&frame], "{}, frame {frame}", edit.name);
            }
        }
        at += piece.frames();
    }
    assert_eq!(new.len(), at, "{}", edit.name);
}

/// Every edit's cost is within its limit, and a build after an edit makes what a build from
/// nothing makes.
fn costs_follow_the_edits(codec: Codec) {
    let edits = edits();
    let footage = Footage::shoot(codec, &edits);
    footage.build();
    let source = format!("source.{}", codec.extension());
    let old = frames(&footage.project.path(&source), false);
    let mut failures = Vec::new();
    for edit in &edits {
        let project = footage.edit(edit);
        assert_kept_frames_are_the_same(&old, &frames(&project.path(&source), false), edit);
        failures.extend(footage.judge(edit, &project));
        if edit.compared {
            let warm = project.output();
            fs::remove_dir_all(project.path("out")).unwrap();
            fs::remove_dir_all(project.path("cache")).unwrap();
            project.build();
            assert_eq!(published(&project.path("out")), warm, "{}: cold and warm differ", edit.name);
            if codec == Codec::H264 {
                let old = frames(&footage.project.path(&source), true);
                assert_kept_frames_are_the_same(&old, &frames(&project.path(&source), true), edit);
            }
        }
    }
    assert!(failures.is_empty(), "over the limit:\n{}", failures.join("\n"));
}

#[test]
fn edits_of_a_film_of_whole_frames() {
    costs_follow_the_edits(Codec::ProRes);
}

#[test]
fn edits_of_a_film_cut_at_its_groups_of_pictures() {
    costs_follow_the_edits(Codec::H264);
}
