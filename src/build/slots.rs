//! What steps run on: the slots of the CPUs, which any step may take, those of devices, which only
//! take encodes, and the decoders of GPUs, which only take spans. Here it is kept how many are taken,
//! and which executors and GPUs have proved to be of no use.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use petgraph::graph::NodeIndex;

use crate::executors::{EncodeSettings, Executor};
use crate::media::{GpuAbout, VideoTrack};
use crate::title::ids::{TitleId, TrackId};
use crate::title::rung::{Choice, RungPlan};

/// A rung of a title.
pub(super) type RungKey = (TitleId, TrackId);

/// A slot's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Cpu,
    /// One of a device, by its executor's number.
    Device(usize),
    /// One of a GPU's decoders, by the GPU's number.
    Decoder(usize),
}

/// An executor that fails this often in a row, on whatever it is given, is not met by chance.
const MAX_FAILURES: u32 = 3;
/// And a chunk on which one fails this often is not given to it any more.
const MAX_ATTEMPTS: u32 = 3;
/// A title of which a GPU declines so many spans in a row is not for it: software would decode them in
/// slots that are not the CPUs'.
const MAX_DECLINED: u32 = 3;

pub(super) struct Slots {
    cpus: usize,
    cpus_taken: usize,
    executors: Vec<ExecutorSlots>,
    gpus: Vec<GpuSlots>,
    /// How long a device that granted no slot is left alone, each time in a row.
    cooling: Vec<Duration>,
    /// How often each executor has failed on an encode.
    attempts: HashMap<NodeIndex, HashMap<usize, u32>>,
    /// What was seen of executors on a rung.
    rungs: HashMap<RungKey, RungRecord>,
}

#[derive(Default)]
struct RungRecord {
    /// Executors that make no more of it, and why.
    retired: Vec<(usize, String)>,
    /// How often in a row each has failed on it.
    failures: HashMap<usize, u32>,
}

struct GpuSlots {
    about: GpuAbout,
    /// Decoders that are ready, and of them those that have a span.
    open: usize,
    taken: usize,
    /// Whether another is being readied.
    opening: bool,
    /// Decoders that it may have.
    limit: usize,
    retired: bool,
    /// By title, how many spans in a row it has declined.
    declined: HashMap<TitleId, u32>,
}

struct ExecutorSlots {
    executor: Arc<dyn Executor>,
    /// The executor's own, asked once: every encode of a film is held against it.
    identity: String,
    taken: usize,
    /// Slots that may be taken; fewer than it has after it granted no more.
    limit: usize,
    /// How often in a row it granted none, and when it is asked again for more than `limit`.
    refusals: usize,
    again: Option<Instant>,
    /// How often in a row it failed.
    failures: u32,
    /// Why it is not used any more.
    retired: Option<String>,
}

/// An encode's way: what is made, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Assignment {
    /// Which of the rung's choices.
    pub choice: usize,
    /// Which of the executors.
    pub executor: usize,
}

/// What a device's refusal of another slot tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reduction {
    /// Nothing new.
    Known,
    /// It has fewer slots than before: so many.
    Granted(usize),
    /// It has had none for too long, and is not asked again.
    GivenUp(String),
}

impl Slots {
    /// `cooling`: how long a device that granted no slot is left alone, each time in a row; then it is
    /// given up.
    pub(super) fn new(cpus: usize, executors: &[Arc<dyn Executor>], cooling: Vec<Duration>) -> Slots {
        let slots = |executor: &Arc<dyn Executor>| ExecutorSlots {
            executor: Arc::clone(executor),
            identity: executor.identity(),
            taken: 0,
            limit: executor.slots(),
            refusals: 0,
            again: None,
            failures: 0,
            retired: None,
        };
        let executors = executors.iter().map(slots).collect();
        Slots {
            cpus,
            cpus_taken: 0,
            executors,
            gpus: Vec::new(),
            cooling,
            attempts: HashMap::new(),
            rungs: HashMap::new(),
        }
    }

    /// All slots that can ever be taken at a time.
    pub(super) fn most(&self) -> usize {
        let devices = self.devices().map(|(_, device)| device.executor.slots());
        self.cpus + devices.sum::<usize>()
    }

    pub(super) fn taken(&self) -> usize {
        let devices = self.devices().map(|(_, device)| device.taken);
        let gpus = self.gpus.iter().map(|gpu| gpu.taken);
        self.cpus_taken + devices.chain(gpus).sum::<usize>()
    }

    /// A GPU that decodes joins in, with no decoder yet.
    pub(super) fn add_gpu(&mut self, about: GpuAbout) {
        let limit = about.spans_at_a_time();
        let declined = HashMap::new();
        self.gpus.push(GpuSlots {
            about,
            open: 0,
            taken: 0,
            opening: false,
            limit,
            retired: false,
            declined,
        });
    }

    /// GPUs of which one more decoder may be readied: all that they have are busy.
    pub(super) fn gpus_to_open(&self) -> Vec<usize> {
        let may =
            |gpu: &GpuSlots| !gpu.retired && !gpu.opening && gpu.taken == gpu.open && gpu.open < gpu.limit;
        (0..self.gpus.len()).filter(|&number| may(&self.gpus[number])).collect()
    }

    /// One more decoder of a GPU is being readied.
    pub(super) fn open_decoder(&mut self, number: usize) {
        self.gpus[number].opening = true;
    }

    /// One more decoder of a GPU is ready, or there can be none. Returns whether the GPU is given up.
    pub(super) fn decoder_opened(&mut self, number: usize, is_ready: bool) -> bool {
        let gpu = &mut self.gpus[number];
        gpu.opening = false;
        if is_ready {
            gpu.open += 1;
            return false;
        }
        // It may have no memory for more.
        gpu.limit = gpu.open;
        gpu.limit == 0 && !std::mem::replace(&mut gpu.retired, true)
    }

    /// GPUs with a decoder that is free.
    pub(super) fn free_gpus(&self) -> Vec<usize> {
        let is_free = |gpu: &GpuSlots| !gpu.retired && gpu.taken < gpu.open;
        (0..self.gpus.len()).filter(|&number| is_free(&self.gpus[number])).collect()
    }

    pub(super) fn gpu(&self, number: usize) -> &GpuAbout {
        &self.gpus[number].about
    }

    /// Whether a GPU may be given spans of a title, of which this is the track.
    pub(super) fn gpu_takes(&self, number: usize, title: TitleId, track: &VideoTrack) -> bool {
        let GpuSlots { about, declined, .. } = &self.gpus[number];
        about.decodes(track) && declined.get(&title).is_none_or(|&declined| declined < MAX_DECLINED)
    }

    /// A GPU has decoded a span of a title.
    pub(super) fn gpu_did(&mut self, number: usize, title: TitleId) {
        self.gpus[number].declined.remove(&title);
    }

    /// A GPU has declined a span of a title. Returns whether it was one too many.
    pub(super) fn gpu_declined(&mut self, number: usize, title: TitleId) -> bool {
        let declined = self.gpus[number].declined.entry(title).or_default();
        *declined += 1;
        *declined == MAX_DECLINED
    }

    /// A GPU or its driver has failed. Returns whether that is news.
    pub(super) fn gpu_failed(&mut self, number: usize) -> bool {
        !std::mem::replace(&mut self.gpus[number].retired, true)
    }

    pub(super) fn has_free(&self, slot: Slot) -> bool {
        match slot {
            Slot::Cpu => self.cpus_taken < self.cpus,
            Slot::Device(number) => self.free_devices().contains(&number),
            Slot::Decoder(number) => self.free_gpus().contains(&number),
        }
    }

    fn devices(&self) -> impl Iterator<Item = (usize, &ExecutorSlots)> {
        self.executors.iter().enumerate().filter(|(_, one)| one.executor.is_device())
    }

    /// Devices with a slot that can be taken now.
    pub(super) fn free_devices(&self) -> Vec<usize> {
        let now = Instant::now();
        let is_free = |device: &ExecutorSlots| {
            let more = device.again.is_some_and(|again| again <= now);
            let limit = if more { device.limit + 1 } else { device.limit };
            device.retired.is_none() && device.taken < limit.min(device.executor.slots())
        };
        self.devices().filter(|(_, device)| is_free(device)).map(|(number, _)| number).collect()
    }

    /// When a device that granted no slot may be asked again, if one is waited for.
    pub(super) fn asked_again(&self) -> Option<Instant> {
        let now = Instant::now();
        let waiting = self.devices().filter(|(_, device)| device.retired.is_none());
        waiting.filter_map(|(_, device)| device.again).filter(|&again| again > now).min()
    }

    pub(super) fn take(&mut self, slot: Slot) {
        match slot {
            Slot::Cpu => self.cpus_taken += 1,
            Slot::Device(number) => self.executors[number].taken += 1,
            Slot::Decoder(number) => self.gpus[number].taken += 1,
        }
    }

    pub(super) fn release(&mut self, slot: Slot) {
        match slot {
            Slot::Cpu => self.cpus_taken -= 1,
            Slot::Device(number) => self.executors[number].taken -= 1,
            Slot::Decoder(number) => self.gpus[number].taken -= 1,
        }
    }

    pub(super) fn name(&self, executor: usize) -> &str {
        self.executors[executor].executor.name()
    }

    fn serves(&self, executor: usize, settings: &EncodeSettings, identity: &str) -> bool {
        let ExecutorSlots { executor, identity: own, .. } = &self.executors[executor];
        executor.encoder() == settings.encoder.name() && own == identity
    }

    /// All ways that are left to an encode on a track, in order of preference, each with how often
    /// it was tried.
    fn ways(&self, key: RungKey, rung: &RungPlan, node: Option<NodeIndex>) -> Vec<(Assignment, u32)> {
        let tried = node.and_then(|node| self.attempts.get(&node));
        let retired = self.rungs.get(&key).map_or(&[][..], |record| &record.retired);
        let has_retired = |executor: usize| retired.iter().any(|(retired, _)| *retired == executor);
        let mut ways = Vec::new();
        for (choice, Choice { settings, identity }) in rung.choices.iter().enumerate() {
            for (executor, slots) in self.executors.iter().enumerate() {
                let attempts = tried.and_then(|tried| tried.get(&executor)).copied().unwrap_or(0);
                if slots.retired.is_none()
                    && attempts < MAX_ATTEMPTS
                    && !has_retired(executor)
                    && self.serves(executor, settings, identity)
                {
                    ways.push((Assignment { choice, executor }, attempts));
                }
            }
        }
        ways
    }

    /// Whether an executor may make anything of a track.
    pub(super) fn may_serve(&self, key: RungKey, rung: &RungPlan, executor: usize) -> bool {
        self.ways(key, rung, None).iter().any(|(way, _)| way.executor == executor)
    }

    /// The first choice that is left to an encode; to any of the track's without `node`.
    pub(super) fn first_choice(
        &self,
        key: RungKey,
        rung: &RungPlan,
        node: Option<NodeIndex>,
    ) -> Option<usize> {
        let ways = self.ways(key, rung, node);
        ways.iter().min_by_key(|(way, attempts)| (*attempts, way.choice)).map(|(way, _)| way.choice)
    }

    /// How an encode is to be made in this slot; `None` where it is not for this slot. One that has
    /// failed goes to who has tried it least.
    pub(super) fn assignment(
        &self,
        key: RungKey,
        rung: &RungPlan,
        node: NodeIndex,
        slot: Slot,
    ) -> Option<Assignment> {
        let ways = self.ways(key, rung, Some(node));
        let fewest = ways.iter().map(|(_, attempts)| *attempts).min()?;
        let fits = |way: &Assignment| match slot {
            Slot::Cpu => !self.executors[way.executor].executor.is_device(),
            Slot::Device(number) => way.executor == number,
            Slot::Decoder(_) => false,
        };
        ways.into_iter().find(|(way, attempts)| *attempts == fewest && fits(way)).map(|(way, _)| way)
    }

    /// An executor did what it was given, and is at so many more.
    pub(super) fn succeeded(&mut self, assignment: Assignment, node: NodeIndex, at_work: usize) {
        let executor = &mut self.executors[assignment.executor];
        (executor.failures, executor.refusals) = (0, 0);
        let granted = at_work + 1;
        if executor.again.is_some_and(|again| again <= Instant::now()) && granted > executor.limit {
            executor.limit = granted;
        }
        if executor.limit >= executor.executor.slots() {
            executor.again = None;
        }
        self.attempts.remove(&node);
    }

    /// An executor granted no slot beside the encodes that it is at.
    pub(super) fn refused(&mut self, assignment: Assignment, granted: usize) -> Reduction {
        let executor = &mut self.executors[assignment.executor];
        let cooling = self.cooling.get(executor.refusals).or(self.cooling.last());
        executor.again = Some(Instant::now() + cooling.copied().unwrap_or_default());
        if granted == 0 {
            executor.refusals += 1;
            if executor.refusals > self.cooling.len() {
                let waited = humantime::format_duration(self.cooling.iter().sum());
                let reason = format!("it had no room for a job in {waited}");
                if executor.retired.replace(reason.clone()).is_none() {
                    return Reduction::GivenUp(reason);
                }
            }
        }
        let fewer = granted < executor.limit;
        executor.limit = granted.min(executor.limit);
        if fewer { Reduction::Granted(granted) } else { Reduction::Known }
    }

    /// An executor failed on an encode of a rung that it may be fit for. Returns whether it is given up
    /// altogether.
    pub(super) fn failed(&mut self, assignment: Assignment, node: NodeIndex, reason: &str) -> bool {
        *self.attempts.entry(node).or_default().entry(assignment.executor).or_default() += 1;
        let executor = &mut self.executors[assignment.executor];
        executor.failures += 1;
        // The CPUs' encoders are there for every rung: one that cannot make a rung is retired from
        // that.
        let hopeless =
            executor.executor.is_device() && executor.failures >= MAX_FAILURES && executor.retired.is_none();
        if hopeless {
            executor.retired = Some(reason.to_owned());
        }
        hopeless
    }

    /// An executor did what it was given on a rung.
    pub(super) fn succeeded_on(&mut self, key: RungKey, assignment: Assignment) {
        if let Some(record) = self.rungs.get_mut(&key) {
            record.failures.remove(&assignment.executor);
        }
    }

    /// An executor failed on a rung, which it `cannot` make, or does not make just now. Returns whether it is
    /// given no more of it.
    pub(super) fn failed_on(
        &mut self,
        key: RungKey,
        rung: &RungPlan,
        assignment: Assignment,
        cannot: bool,
        reason: &str,
    ) -> bool {
        let executor = assignment.executor;
        let record = self.rungs.entry(key).or_default();
        let failures = record.failures.entry(executor).or_default();
        *failures += 1;
        let is_enough = *failures >= MAX_FAILURES;
        if !(cannot || is_enough) || record.retired.iter().any(|(retired, _)| *retired == executor) {
            return false;
        }
        record.retired.push((executor, reason.to_owned()));
        // One alone that fails now and then goes on: a chunk has its own number of attempts.
        if !cannot && self.first_choice(key, rung, None).is_none() {
            if let Some(record) = self.rungs.get_mut(&key) {
                record.retired.pop();
            }
            return false;
        }
        true
    }

    /// A title's tracks were withdrawn.
    pub(super) fn forget_tracks(&mut self, title: TitleId) {
        self.rungs.retain(|(of, _), _| *of != title);
    }

    /// Why nothing is left for a rung.
    pub(super) fn reasons(&self, key: RungKey) -> Vec<String> {
        let retired = self.executors.iter().filter_map(|one| {
            one.retired.as_ref().map(|reason| format!("{}: {reason}", one.executor.name()))
        });
        let on_rung = self.rungs.get(&key).into_iter().flat_map(|record| &record.retired);
        on_rung.map(|(_, reason)| reason.clone()).chain(retired).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executors::{EncodeJob, EncodedChunk, Failure};

    /// A device with two slots, of which nothing is asked here.
    struct Device;

    impl Executor for Device {
        fn name(&self) -> &str {
            "device"
        }

        fn identity(&self) -> String {
            String::new()
        }

        fn encoder(&self) -> &str {
            "nvenc"
        }

        fn slots(&self) -> usize {
            2
        }

        fn is_device(&self) -> bool {
            true
        }

        fn encode(&self, _: &EncodeJob<'_>) -> Result<EncodedChunk, Failure> {
            Err(Failure::machine("nothing is encoded here"))
        }
    }

    /// Slots whose encodes were refused are still taken when the next refusal is told of: they are no
    /// sign that the device grants any.
    #[test]
    fn refusals_at_the_same_moment_leave_nothing_granted() {
        let assignment = Assignment { choice: 0, executor: 0 };
        let mut slots = Slots::new(1, &[Arc::new(Device) as Arc<dyn Executor>], vec![Duration::ZERO; 2]);
        for round in 1..=3 {
            assert_eq!(slots.free_devices(), [0], "asked again, round {round}");
            (0..2).for_each(|_| slots.take(Slot::Device(0)));
            // None of the two is at work any more when the first refusal is told of.
            let told: Vec<Reduction> = [1, 0].map(|at_work| slots.refused(assignment, at_work)).to_vec();
            if round == 3 {
                assert_eq!(told[1], Reduction::GivenUp("it had no room for a job in 0s".to_owned()));
            }
            (0..2).for_each(|_| slots.release(Slot::Device(0)));
        }
        assert_eq!(slots.free_devices(), [] as [usize; 0], "given up");
        assert_eq!(slots.asked_again(), None);
        assert_eq!(slots.executors[0].retired.as_deref(), Some("it had no room for a job in 0s"));
    }

    #[test]
    fn decoders_of_a_gpu_join_in_one_after_the_other() {
        let about =
            |engines| GpuAbout { name: "a GPU".to_owned(), uuid: String::new(), engines, codecs: Vec::new() };
        let mut slots = Slots::new(1, &[], Vec::new());
        [1, 7].into_iter().for_each(|engines| slots.add_gpu(about(engines)));
        let fill = |slots: &mut Slots, gpu| {
            let mut taken = 0;
            while slots.has_free(Slot::Decoder(gpu)) {
                slots.take(Slot::Decoder(gpu));
                taken += 1;
            }
            taken
        };
        assert_eq!(slots.gpus_to_open(), [0, 1]);
        slots.open_decoder(0);
        assert_eq!((slots.gpus_to_open(), slots.free_gpus()), (vec![1], vec![]), "it is not ready yet");
        assert!(!slots.decoder_opened(0, true));
        assert_eq!((slots.gpus_to_open(), slots.free_gpus()), (vec![1], vec![0]), "it has nothing to do");
        assert_eq!((fill(&mut slots, 0), slots.gpus_to_open()), (1, vec![0, 1]));
        slots.open_decoder(0);
        slots.decoder_opened(0, true);
        assert_eq!((fill(&mut slots, 0), slots.gpus_to_open()), (1, vec![1]), "two an engine");
        // One that has no memory for more keeps what it has; one that has none at all is given up.
        slots.open_decoder(1);
        slots.decoder_opened(1, true);
        assert_eq!(fill(&mut slots, 1), 1);
        slots.open_decoder(1);
        assert!(!slots.decoder_opened(1, false));
        slots.release(Slot::Decoder(1));
        assert_eq!((slots.gpus_to_open(), slots.free_gpus()), (vec![], vec![1]));
        slots.add_gpu(about(1));
        slots.open_decoder(2);
        assert!(slots.decoder_opened(2, false) && !slots.decoder_opened(2, false), "it is news once");
        assert!(!slots.gpus_to_open().contains(&2));
        assert_eq!(slots.taken(), 2);
        // Three in a row, of the same title.
        assert_eq!([0, 0, 1].map(|title| slots.gpu_declined(0, TitleId::new(title))), [false; 3]);
        slots.gpu_did(0, TitleId::new(0));
        assert_eq!(
            [0, 0, 0, 0].map(|title| slots.gpu_declined(0, TitleId::new(title))),
            [false, false, true, false]
        );
        slots.release(Slot::Decoder(0));
        assert!(slots.gpu_failed(0) && !slots.gpu_failed(0), "it is news once");
        assert_eq!((fill(&mut slots, 0), slots.free_gpus()), (0, vec![1]));
    }
}
