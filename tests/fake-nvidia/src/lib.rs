//! One library that stands for `libcuda.so.1`, `libnvidia-encode.so.1` and `libnvcuvid.so.1`, so
//! that what talks to NVIDIA's driver can be tested where there is none. It makes real AV1, with
//! rav1e, of what lies in its GPUs' memory, and watches that its client keeps the rules that
//! NVIDIA's headers state: what breaks one is refused as the driver refuses it, and noted in the
//! [`journal`]. [`settings`] tells how to have it be another machine, or misbehave.
//!
//! It is no model of speed, and of the pictures of a stream it knows only key frames and others.

mod cuda;
mod cuvid;
mod journal;
mod nvenc;
mod settings;
