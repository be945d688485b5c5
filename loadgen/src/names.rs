//! The words of the command line that choose one of a few.

use clap::ValueEnum;

/// The service levels by their names in the protocol's table.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum ServiceName {
    Maybe,
    Repeat,
    RepeatDedup,
    MoreOrLessOnce,
    AtMostOnce,
    #[default]
    ExactlyOnce,
    Request,
    Sequence,
}

/// What ordered streams promise, and how their losses are repaired.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum StreamKindName {
    #[default]
    Reliable,
    Lossy,
    ReliableOnRequest,
    LossyOnRequest,
}

/// How soon messages leave.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum PriorityName {
    Urgent,
    #[default]
    Normal,
    Bulk,
}

/// Who gets in unasked.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum AcceptName {
    Never,
    Once,
    #[default]
    Always,
}

/// Idle strategies.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum IdleName {
    Spin,
    Yield,
    #[default]
    Backoff,
    Park,
}

/// Drivers.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum IoName {
    #[default]
    Auto,
    Uring,
    Mmsg,
}

/// Packet ciphers.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum SuiteName {
    #[default]
    #[value(name = "aes256gcm")]
    Aes256Gcm,
    #[value(name = "chacha20")]
    ChaCha20,
    #[cfg(feature = "aegis")]
    #[value(name = "aegis128l")]
    Aegis128L,
}

/// Session protection.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum ModeName {
    #[default]
    Sealed,
    Signed,
    Plain,
}

/// What lies between two nodes.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum NetworkName {
    #[default]
    Lan,
    Wan,
}

/// On or off.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Switch {
    On,
    Off,
}

impl Switch {
    /// Whether it is on.
    pub(crate) fn is_on(self) -> bool {
        self == Self::On
    }
}

/// The name by which the command line knows a value.
pub(crate) fn name_of(value: impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}
