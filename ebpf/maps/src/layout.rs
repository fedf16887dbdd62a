//! What each map looks like, from the one list in `ebpf/abi`.

use mesh_ebpf_abi::for_each_map;

/// Kind of a map, as the list names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    /// Hash table.
    Hash,
    /// Hash table that forgets the least recently used entry when full.
    LruHash,
    /// Ranges by their prefixes, the longest match found.
    LpmTrie,
    /// Array.
    Array,
    /// Array with a value for each processor.
    PerCpuArray,
    /// Array of sockets.
    SockMap,
    /// Ring buffer.
    RingBuf,
}

impl MapKind {
    pub(crate) const fn of_kernel(kind: aya::maps::MapType) -> Option<Self> {
        use aya::maps::MapType;
        match kind {
            MapType::Hash => Some(Self::Hash),
            MapType::LruHash => Some(Self::LruHash),
            MapType::LpmTrie => Some(Self::LpmTrie),
            MapType::Array => Some(Self::Array),
            MapType::PerCpuArray => Some(Self::PerCpuArray),
            MapType::SockMap => Some(Self::SockMap),
            MapType::RingBuf => Some(Self::RingBuf),
            _ => None,
        }
    }
}

/// Everything that must agree between a program and a pinned map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapLayout {
    /// Name in the object file and under the pin root.
    pub name: &'static str,
    /// Kind.
    pub kind: MapKind,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Most entries; for a ring buffer its size in bytes.
    pub max_entries: u32,
    /// Flags it is made with.
    pub flags: u32,
}

macro_rules! define {
    ($($(#[$doc:meta])* $id:ident = $name:tt: $kind:ident, $key:ty => $value:ty,
        entries $max:expr, flags $flags:expr;)*) => {
        /// Names of the maps, as constants.
        pub mod names {
            $($(#[$doc])* pub const $id: &str = $name;)*
        }

        const LAYOUTS: &[MapLayout] = &[$(MapLayout {
            name: $name,
            kind: MapKind::$kind,
            key_size: size_of::<$key>() as u32,
            value_size: size_of::<$value>() as u32,
            max_entries: $max,
            flags: $flags,
        },)*];
    };
}
for_each_map!(define);

/// The layouts of all maps.
pub const fn layouts() -> &'static [MapLayout] {
    LAYOUTS
}
