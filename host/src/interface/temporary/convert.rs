//! Between the words of `wasi:filesystem` and those of a tree.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;
use wasmtime_wasi::p2::bindings::sync::filesystem::types::{
    DescriptorStat, DescriptorType, MetadataHashValue, NewTimestamp,
};

use super::nodes::Stat;
use super::tree::Handle;

/// Whether it is a directory, in WASI's words.
pub(super) fn kind(is_directory: bool) -> DescriptorType {
    match is_directory {
        true => DescriptorType::Directory,
        false => DescriptorType::RegularFile,
    }
}

/// What is known of something, in WASI's words.
pub(super) fn stat(stat: &Stat) -> DescriptorStat {
    DescriptorStat {
        type_: kind(stat.is_directory),
        link_count: stat.is_linked.into(),
        size: stat.bytes,
        data_access_timestamp: date(stat.accessed),
        data_modification_timestamp: date(stat.modified),
        status_change_timestamp: None,
    }
}

/// What a guest makes an inode's number of.
pub(super) fn hash(handle: &Handle) -> MetadataHashValue {
    MetadataHashValue {
        lower: handle.id(),
        upper: 0,
    }
}

fn date(time: SystemTime) -> Option<Datetime> {
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    Some(Datetime {
        seconds: since.as_secs(),
        nanoseconds: since.subsec_nanos(),
    })
}

/// A time that a guest has chosen, if it has.
pub(super) fn time(time: NewTimestamp) -> Result<Option<SystemTime>, ErrorCode> {
    match time {
        NewTimestamp::NoChange => Ok(None),
        NewTimestamp::Now => Ok(Some(SystemTime::now())),
        NewTimestamp::Timestamp(date) => {
            let since = Duration::from_secs(date.seconds)
                .checked_add(Duration::from_nanos(date.nanoseconds.into()));
            let time = since.and_then(|since| UNIX_EPOCH.checked_add(since));
            time.map(Some).ok_or(ErrorCode::Overflow)
        }
    }
}
