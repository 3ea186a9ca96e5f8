//! Packages streams that are not ours and asks FFmpeg what it sees in them: the same pictures and
//! sound as before, at the right times, without a warning.

use std::path::Path;

use mp4_atom::{Any, AnySampleGroupEntry, Codec, Colr, DecodeMaybe, FourCC, TrunSamples};

use super::*;
use crate::media::Rational;
use crate::media::av1::{sequence_header_obu, test_stream, to_sample};
use crate::package::composition::ContentId;
use crate::package::test_tools::{OggOpus, Unit, decoded_pcm, frame_digests, probe, segment_bytes};
use crate::stream::{AudioCodec, Contract, Language, Role, StreamError, Track};

/// Sample flags as they are usually written (ISO/IEC 14496-12 8.8.3.1).
const SYNC: u32 = 0x0200_0000;
const NON_SYNC: u32 = 0x0101_0000;

/// The track of a stream with this sequence header, at 24000/1001 frames a second.
fn video(header: &[u8]) -> Track {
    Contract::of(header).unwrap().track(24_000, Rational { num: 24_000, den: 1001 })
}

/// `encode`'s stream packaged: an initialization segment, and a segment from each key frame on.
fn package_video(units: &[test_stream::Unit]) -> (Vec<u8>, Vec<Vec<u8>>) {
    const FRAME: u32 = 1001;
    let header = sequence_header_obu(&units[0].data).unwrap().unwrap();
    let init = init_segment(&video(header), header, 0).unwrap();
    let data: Vec<_> = units.iter().map(|unit| to_sample(&unit.data).unwrap()).collect();
    let samples: Vec<_> =
        units.iter().zip(&data).map(|(unit, data)| Unit { data, duration: FRAME, sync: unit.key }).collect();
    let mut segments = Vec::new();
    let mut start = 0;
    for (n, samples) in samples.chunk_by(|_, next| !next.sync).enumerate() {
        segments.push(segment_bytes(n as u32 + 1, start, false, samples));
        start += samples.len() as u64 * u64::from(FRAME);
    }
    (init, segments)
}

fn atoms(mut bytes: &[u8]) -> Vec<Any> {
    let mut found = Vec::new();
    while let Some(atom) = Any::decode_maybe(&mut bytes).unwrap() {
        found.push(atom);
    }
    assert!(bytes.is_empty());
    found
}

/// The kinds of all boxes within `bytes`, outermost first, in file order.
fn box_order(mut bytes: &[u8]) -> Vec<String> {
    const CONTAINERS: [&str; 7] = ["moov", "trak", "mdia", "minf", "stbl", "mvex", "edts"];
    let mut kinds = Vec::new();
    while !bytes.is_empty() {
        let size = u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize;
        let kind = String::from_utf8(bytes[4..8].to_vec()).unwrap();
        let inner = if CONTAINERS.contains(&kind.as_str()) { box_order(&bytes[8..size]) } else { vec![] };
        kinds.push(kind);
        kinds.extend(inner);
        bytes = &bytes[size..];
    }
    kinds
}

fn write(folder: &Path, name: &str, parts: &[&[u8]]) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, parts.concat()).unwrap();
    path
}

#[test]
fn pictures_come_out_as_they_went_in() {
    let folder = tempfile::tempdir().unwrap();
    for (encoder, pixel_format) in
        [("libsvtav1", "yuv420p"), ("libaom-av1", "yuv444p"), ("librav1e", "yuv420p10le")]
    {
        let units = test_stream::encode(encoder, "-g 12", 40, pixel_format);
        let (init, segments) = package_video(&units);
        assert!(segments.len() >= 4);
        let whole = write(folder.path(), "whole.mp4", &[&init, &segments.concat()]);

        let packets = probe(&whole, "-show_entries packet=pts,dts,flags -of csv=p=0");
        let expected: String = units
            .iter()
            .enumerate()
            .map(|(n, unit)| {
                let time = n * 1001;
                format!("{time},{time},{}\n", if unit.key { "K_" } else { "__" })
            })
            .collect();
        assert_eq!(packets, expected, "{encoder}");
        let stream = probe(
            &whole,
            "-show_entries stream=codec_name,width,height,sample_aspect_ratio,pix_fmt,r_frame_rate,\
             time_base,start_time -of csv=p=0",
        );
        assert_eq!(
            stream.trim(),
            format!("av1,320,180,1:1,{pixel_format},24000/1001,1/24000,0.000000"),
            "{encoder}"
        );

        let elementary: Vec<u8> = units.iter().flat_map(|unit| unit.data.clone()).collect();
        let elementary = write(folder.path(), "stream.obu", &[&elementary]);
        let digests = frame_digests(&whole);
        assert_eq!(digests.len(), 40, "{encoder}");
        assert_eq!(digests, frame_digests(&elementary), "{encoder}");

        // Any segment plays by itself behind the initialization segment.
        let third = write(folder.path(), "third.mp4", &[&init, &segments[2]]);
        let from = units.iter().enumerate().filter(|(_, unit)| unit.key).nth(2).unwrap().0;
        let alone = frame_digests(&third);
        assert_eq!(alone, digests[from..from + alone.len()], "{encoder}");
    }
}

#[test]
fn an_av1_track_says_what_its_header_says() {
    let hdr = "-color_primaries bt2020 -color_trc smpte2084 -colorspace bt2020nc";
    let units = test_stream::encode("libsvtav1", hdr, 1, "yuv420p10le");
    let (init, segments) = package_video(&units);
    assert_eq!(
        box_order(&init),
        [
            "ftyp", "moov", "mvhd", "trak", "tkhd", "mdia", "mdhd", "hdlr", "minf", "vmhd", "dinf", "stbl",
            "stsd", "stts", "stsc", "stsz", "stco", "mvex", "trex"
        ]
    );
    let [Any::Ftyp(ftyp), Any::Moov(moov)] = &atoms(&init)[..] else { panic!("{init:?}") };
    assert!(ftyp.compatible_brands.contains(&FourCC::new(b"av01")));
    let Codec::Av01(entry) = &moov.trak[0].mdia.minf.stbl.stsd.codecs[0] else { panic!() };
    let header = sequence_header_obu(&units[0].data).unwrap().unwrap();
    assert_eq!(entry.av1c.config_obus, header);
    assert!(entry.av1c.high_bitdepth && !entry.av1c.twelve_bit && !entry.av1c.monochrome);
    assert_eq!((entry.visual.width, entry.visual.height), (320, 180));
    assert_eq!(entry.colr, Some(Colr::new(9, 16, 9, false).unwrap()));
    let folder = tempfile::tempdir().unwrap();
    let whole = write(folder.path(), "hdr.mp4", &[&init, &segments.concat()]);
    let color = probe(
        &whole,
        "-show_entries stream=color_range,color_space,color_transfer,color_primaries -of csv=p=0",
    );
    assert_eq!(color.trim(), "tv,bt2020nc,smpte2084,bt2020");
}

#[test]
fn a_segment_says_once_what_its_samples_share() {
    let trun_of = |units: &[Unit<'_>]| {
        let bytes = segment_bytes(7, 1 << 40, false, units);
        let [Any::Styp(_), Any::Moof(moof), Any::Mdat(mdat)] = &atoms(&bytes)[..] else { panic!() };
        assert_eq!(moof.mfhd.sequence_number, 7);
        let traf = &moof.traf[0];
        assert_eq!(traf.tfdt.as_ref().unwrap().base_media_decode_time, 1 << 40);
        assert!(traf.tfhd.default_base_is_moof && traf.sbgp.is_empty());
        // The data offset counts from the start of moof and must hit the media.
        let offset = traf.trun[0].data_offset.unwrap() as usize;
        let styp = u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize;
        assert_eq!(&bytes[styp + offset..], &mdat.data[..]);
        (traf.tfhd.clone(), traf.trun[0].samples.clone())
    };
    let sample = |data, duration, sync| Unit { data, duration, sync };

    let (tfhd, run) = trun_of(&[sample(b"abc", 5, true), sample(b"def", 5, false)]);
    assert_eq!((tfhd.default_sample_duration, tfhd.default_sample_size), (Some(5), Some(3)));
    assert_eq!(tfhd.default_sample_flags, Some(NON_SYNC));
    assert_eq!(run, TrunSamples::Inherited { count: 2, first_flags: Some(SYNC) });

    let (tfhd, run) = trun_of(&[sample(b"abc", 5, true)]);
    assert_eq!(tfhd.default_sample_flags, Some(SYNC));
    assert_eq!(run, TrunSamples::Inherited { count: 1, first_flags: None });

    let mixed = [sample(b"a", 5, true), sample(b"bc", 6, false), sample(b"d", 5, true)];
    let (tfhd, run) = trun_of(&mixed);
    assert_eq!((tfhd.default_sample_duration, tfhd.default_sample_size), (None, None));
    let run: Vec<_> = run.iter().map(|entry| (entry.duration, entry.size, entry.flags)).collect();
    let some = |duration, size, flags| (Some(duration), Some(size), Some(flags));
    assert_eq!(run, [some(5, 1, SYNC), some(6, 2, NON_SYNC), some(5, 1, SYNC)]);
}

#[test]
fn what_cannot_be_written_is_an_error() {
    let units = test_stream::encode("libsvtav1", "", 1, "yuv420p");
    let header = sequence_header_obu(&units[0].data).unwrap().unwrap();
    let mut zero = video(header);
    zero.timescale = 0;
    assert!(matches!(init_segment(&zero, header, 0), Err(CmafError::ZeroTimescale)));
    let garbled = init_segment(&video(header), &header[1..], 0);
    assert!(matches!(garbled, Err(CmafError::Stream(StreamError::SequenceHeader(_)))));
    let empty = Segment { sequence_number: 1, base_decode_time: 0, rolls: true, samples: &[] };
    assert!(matches!(segment(&empty, ContentId::of(b"")), Err(CmafError::EmptySegment)));
    let samples = [Sample { size: 3, duration: 1, sync: true }];
    let short = Segment { samples: &samples, ..empty };
    assert!(matches!(segment(&short, ContentId::of(b"ab")), Err(CmafError::Payload { .. })));
    let samples = [Sample { size: i32::MAX as u32 - 10, duration: 1, sync: true }];
    let (long, payload) = (Segment { samples: &samples, ..empty }, ContentId::of(b""));
    let long = segment(&long, ContentId { size: i32::MAX as u64 - 10, ..payload });
    assert!(matches!(long, Err(CmafError::SegmentSize { .. })));
    let surround = AudioCodec::Opus.track(6, 44_100, None, Role::Main);
    let surround = init_segment(&surround, &[], 0);
    assert!(matches!(surround, Err(CmafError::Stream(StreamError::Channels(6)))));
}

fn stereo(pre_skip: u16, language: Option<Language>) -> Track {
    let mut track = AudioCodec::Opus.track(2, 44_100, language, Role::Main);
    track.pre_skip = pre_skip.into();
    track
}

/// The packets of `opus` in segments of 25, the last packet cut to where the sound ends.
fn package_audio(opus: &OggOpus, media_time: u64) -> Vec<Vec<u8>> {
    let mut start = 0;
    let mut segments = Vec::new();
    let end = opus.samples + media_time;
    for (n, packets) in opus.packets.chunks(25).enumerate() {
        let samples: Vec<_> = packets
            .iter()
            .enumerate()
            .map(|(m, data)| {
                let left = end - start - m as u64 * 960;
                Unit { data, duration: left.min(960) as u32, sync: true }
            })
            .collect();
        segments.push(segment_bytes(n as u32 + 1, start, true, &samples));
        start += packets.len() as u64 * 960;
    }
    segments
}

#[test]
fn sound_starts_and_ends_on_the_sample() {
    let folder = tempfile::tempdir().unwrap();
    let opus = OggOpus::encode(folder.path(), "0.3*sin(2*PI*t*(200+100*t))", 100_003);
    let init = init_segment(&stereo(opus.pre_skip, Language::new("de-CH")), &[], 0).unwrap();
    let segments = package_audio(&opus, opus.pre_skip.into());
    let whole = write(folder.path(), "whole.mp4", &[&init, &segments.concat()]);

    let packets = probe(&whole, "-show_entries packet=pts,flags -of csv=p=0");
    let packets: Vec<_> = packets.lines().collect();
    assert_eq!(packets.len(), opus.packets.len());
    for (n, packet) in packets.iter().enumerate() {
        assert_eq!(*packet, format!("{},K_", 960 * n as i64 - i64::from(opus.pre_skip)));
    }
    let stream = probe(
        &whole,
        "-show_entries stream=codec_name,sample_rate,channels,time_base:stream_tags=language \
         -of csv=p=0",
    );
    assert_eq!(stream.trim(), "opus,48000,2,1/48000,deu");
    // Sample for sample what the same packets give in Ogg, which states start and end exactly.
    // FFmpeg 5.1 plays on to the end of the last packet of a fragmented file.
    let reference = decoded_pcm(&opus.path);
    assert_eq!(reference.len(), 100_003 * 4);
    let pcm = decoded_pcm(&whole);
    assert_eq!(pcm.get(..reference.len()), Some(&reference[..]));
    let last = atoms(segments.last().unwrap());
    let Any::Moof(moof) = &last[1] else { panic!() };
    let last = moof.traf[0].trun[0].samples.iter().last().unwrap();
    assert_eq!(last.duration, Some((100_003 + u32::from(opus.pre_skip)) % 960));
}

#[test]
fn an_opus_track_has_pre_roll_and_edit_list() {
    let init = init_segment(&stereo(312, None), &[], 960).unwrap();
    assert_eq!(
        box_order(&init),
        [
            "ftyp", "moov", "mvhd", "trak", "tkhd", "edts", "elst", "mdia", "mdhd", "hdlr", "minf", "smhd",
            "dinf", "stbl", "stsd", "stts", "stsc", "stsz", "stco", "sgpd", "sbgp", "mvex", "trex"
        ]
    );
    let [Any::Ftyp(ftyp), Any::Moov(moov)] = &atoms(&init)[..] else { panic!() };
    assert!(ftyp.compatible_brands.contains(&FourCC::new(b"Opus")));
    let track = &moov.trak[0];
    let edits = &track.edts.as_ref().unwrap().elst.as_ref().unwrap().entries;
    assert_eq!((edits[0].media_time, edits[0].segment_duration), (Some(1272), 0));
    let stbl = &track.mdia.minf.stbl;
    let Codec::Opus(entry) = &stbl.stsd.codecs[0] else { panic!() };
    assert_eq!((entry.dops.pre_skip, entry.dops.input_sample_rate), (312, 44_100));
    assert_eq!(entry.audio.sample_rate.integer(), 48_000);
    let AnySampleGroupEntry::UnknownGroupingType(kind, bytes) = &stbl.sgpd[0].entries[0].entry else {
        panic!()
    };
    assert_eq!((*kind, &bytes[..]), (FourCC::new(b"roll"), &(-4i16).to_be_bytes()[..]));

    let packet = [0xfc; 40];
    let bytes = segment_bytes(1, 0, true, &[Unit { data: &packet, duration: 960, sync: true }; 50]);
    let Any::Moof(moof) = &atoms(&bytes)[1] else { panic!() };
    let roll = &moof.traf[0].sbgp[0];
    assert_eq!(roll.grouping_type, FourCC::new(b"roll"));
    assert_eq!((roll.entries[0].sample_count, roll.entries[0].group_description_index), (50, 1));
    // Packets of one size and duration cost nothing each.
    assert_eq!(moof.traf[0].trun[0].samples, TrunSamples::Inherited { count: 50, first_flags: None });
}

#[test]
fn a_language_beyond_three_letters_is_kept_whole() {
    let with = |tag: &str| init_segment(&stereo(312, Language::new(tag)), &[], 0).unwrap();
    assert!(!box_order(&with("de")).contains(&"elng".to_owned()));
    let init = with("zh-Hant");
    let order = box_order(&init);
    let mdhd = order.iter().position(|kind| kind == "mdhd").unwrap();
    assert_eq!(order[mdhd + 1], "elng");
    assert!(init.windows(8).any(|bytes| bytes == b"zh-Hant\0"));
}
