// In the page: plays the stream from start to end once on every level, then once more
// changing the level at every segment, and keeps a record of what happened. It judges
// nothing; whoever reads the record does. It waits for events only; the time limit is the
// caller's.

const video = document.querySelector('video');
const label = document.querySelector('#label');
const { Events } = Hls;

const record = {
  ended: false,
  fatal: [],
  errors: [],
  stalls: 0, // waits with nothing more to play in the buffer
  slow: 0, // waits although there was: this machine, not the stream
  levels: [],
  mixed: null,
  audioTracks: 0,
};
let hls = null;
let pass = null; // the pass that is being played
let fail = null; // rejects every wait
const failed = new Promise((_, reject) => (fail = reject));
failed.catch(() => {});

const seconds = (value) => Number(value.toFixed(6));

function ranges(timeRanges) {
  return Array.from({ length: timeRanges?.length ?? 0 }, (_, i) => [
    seconds(timeRanges.start(i)),
    seconds(timeRanges.end(i)),
  ]);
}

const sourceBuffers = {};
function buffered() {
  const all = { media: ranges(video.buffered) };
  for (const [type, buffer] of Object.entries(sourceBuffers)) {
    try {
      all[type] = ranges(buffer.buffered);
    } catch {
      all[type] = []; // taken off its media source
    }
  }
  return all;
}

function domEvent(name) {
  return Promise.race([failed, new Promise((resolve) => video.addEventListener(name, resolve, { once: true }))]);
}

function hlsEvent(name, test = () => true) {
  const event = new Promise((resolve) => {
    const listener = (_, data) => {
      if (!test(data)) return;
      hls.off(name, listener);
      resolve(data);
    };
    hls.on(name, listener);
  });
  return Promise.race([failed, event]);
}

function frameCounts() {
  const quality = video.getVideoPlaybackQuality();
  return { total: quality.totalVideoFrames, dropped: quality.droppedVideoFrames };
}

function beginPass(name) {
  const before = frameCounts();
  pass = {
    name,
    playing: false,
    fragments: [], // { sn, level } of each video segment as it came on screen
    sizes: new Set(), // of the pictures presented
    frames() {
      const now = frameCounts();
      return { total: now.total - before.total, dropped: now.dropped - before.dropped };
    },
  };
}

function watch() {
  hls.on(Events.ERROR, (_, data) => {
    const error = { details: data.details, type: data.type, message: data.error?.message ?? data.reason ?? '' };
    error.pass = pass?.name ?? null;
    for (const key of ['level', 'url']) if (data[key] !== undefined) error[key] = data[key];
    if (data.frag) Object.assign(error, { level: data.frag.level, sn: data.frag.sn, track: data.frag.type });
    if (data.response?.code) error.status = data.response.code;
    if (data.fatal) {
      record.fatal.push(error);
      fail(new Error(error.details));
    } else {
      record.errors.push(error);
    }
  });
  hls.on(Events.BUFFER_CREATED, (_, data) => {
    for (const [type, track] of Object.entries(data.tracks)) sourceBuffers[type] = track.buffer;
  });
  hls.on(Events.FRAG_CHANGED, (_, { frag }) => pass?.fragments.push({ sn: frag.sn, level: frag.level }));
  video.addEventListener('error', () => {
    record.fatal.push({ details: 'mediaElementError', type: `MediaError ${video.error.code}`, message: video.error.message });
    fail(new Error('mediaElementError'));
  });
  video.addEventListener('waiting', () => {
    if (!pass?.playing || video.seeking) return;
    const now = video.currentTime;
    const more = ranges(video.buffered).some(([start, end]) => start <= now && end - now > 0.25);
    record[more ? 'slow' : 'stalls'] += 1;
  });
  const onFrame = (_, frame) => {
    if (pass?.playing) {
      pass.sizes.add(`${frame.width}x${frame.height}`);
      label.textContent = `${pass.name} · ${frame.width}x${frame.height} · ${frame.mediaTime.toFixed(2)} s`;
    }
    video.requestVideoFrameCallback(onFrame);
  };
  video.requestVideoFrameCallback(onFrame);
}

const isVideoOf = (level) => ({ frag }) => frag.type === 'main' && frag.sn !== 'initSegment' && frag.level === level;

function seek(time) {
  const seeked = domEvent('seeked');
  video.currentTime = time;
  return seeked;
}

/// Empties the video buffer and fills it from the start with `level`.
async function startOver(level, name) {
  if (!hls.media) {
    const loaded = hlsEvent(Events.FRAG_BUFFERED, isVideoOf(level));
    beginPass(name);
    hls.attachMedia(video);
    hls.startLevel = level;
    hls.loadLevel = level;
    hls.startLoad(0);
    await loaded;
  } else {
    // Back to the start before the switch, so that nothing is loaded at the end in vain.
    await seek(0);
    const flushed = hlsEvent(Events.BUFFER_FLUSHED, ({ type }) => type !== 'audio');
    hls.currentLevel = level;
    await flushed;
    beginPass(name);
    const loaded = hlsEvent(Events.FRAG_BUFFERED, isVideoOf(level));
    await Promise.all([loaded, seek(0)]); // the decoder, too, forgets the old level
  }
  if (video.readyState < HTMLMediaElement.HAVE_FUTURE_DATA) await domEvent('canplay');
}

async function playToEnd(rate, halfway) {
  const ended = domEvent('ended');
  let shot = null;
  const onTime = () => {
    if (!shot && video.currentTime >= video.duration / 2) shot = halfway?.() ?? Promise.resolve();
  };
  video.addEventListener('timeupdate', onTime);
  try {
    video.playbackRate = rate;
    pass.playing = true;
    await Promise.race([failed, video.play()]);
    await ended;
    await shot;
  } finally {
    pass.playing = false;
    video.removeEventListener('timeupdate', onTime);
  }
}

function describe(level) {
  return {
    height: level.height,
    width: level.width,
    bitrate: level.bitrate,
    codecs: [level.videoCodec, level.audioCodec].filter(Boolean).join(','),
    played: false,
  };
}

/// Every level by itself, lowest first.
async function playLevel(index, rate, halfway) {
  const entry = record.levels[index];
  await startOver(index, `level ${index}`);
  await playToEnd(rate, halfway);
  entry.played = pass.fragments.length > 0 && pass.fragments.every(({ level }) => level === index);
  entry.videoWidth = video.videoWidth;
  entry.videoHeight = video.videoHeight;
  entry.sizes = [...pass.sizes];
  entry.segments = pass.fragments.map(({ sn }) => sn);
  entry.frames = pass.frames();
  entry.buffered = buffered();
}

/// The next segment always from the next level, in one unbroken buffer: what a player does
/// that adapts to its network.
async function playMixed(rate) {
  // Parsed is early enough: once it is buffered, hls.js has asked for the next one already.
  const rotate = (_, { frag }) => {
    if (frag.type === 'main' && frag.sn !== 'initSegment') hls.loadLevel = (frag.level + 1) % hls.levels.length;
  };
  hls.on(Events.FRAG_PARSED, rotate);
  try {
    await startOver(0, 'mixed');
    await playToEnd(rate, null);
  } finally {
    hls.off(Events.FRAG_PARSED, rotate);
  }
  record.mixed = {
    ended: true,
    levels: pass.fragments.map(({ level }) => level),
    sizes: [...pass.sizes],
    frames: pass.frames(),
    buffered: buffered(),
  };
}

async function run({ master, rate, debug }) {
  if (!Hls.isSupported()) throw new Error('this browser has no Media Source Extensions');
  hls = new Hls({ debug, autoStartLoad: false, capLevelToPlayerSize: false, startPosition: 0 });
  watch();
  try {
    const parsed = hlsEvent(Events.MANIFEST_PARSED);
    hls.loadSource(master);
    await parsed;
    record.levels = hls.levels.map(describe);
    const top = hls.levels.length - 1;
    for (let index = 0; index <= top; index += 1) {
      await playLevel(index, rate, index === top ? () => window.halfway() : null);
    }
    if (top > 0) await playMixed(rate);
    record.ended = true;
  } catch (error) {
    if (record.fatal.length === 0) record.fatal.push({ details: 'exception', message: String(error) });
  }
  return snapshot();
}

/// What is known up to now; also for a caller who has run out of patience.
function snapshot() {
  record.audioTracks = hls?.audioTracks.length ?? 0;
  return {
    ...record,
    duration: Number.isFinite(video.duration) ? seconds(video.duration) : null,
    currentTime: seconds(video.currentTime),
    buffered: buffered(),
    pass: record.ended ? null : (pass?.name ?? null),
  };
}
