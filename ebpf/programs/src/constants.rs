//! Constants that the loader sets.

macro_rules! define {
    ($($(#[$doc:meta])* $name:ident $field:ident: $kind:ty = $default:expr;)*) => {
        $(
            $(#[$doc])*
            #[inline(always)]
            pub(crate) fn $field() -> $kind {
                #[unsafe(no_mangle)]
                static $name: $kind = $default;
                // SAFETY: a reference to a static is valid; volatile, because the loader changes the value
                // in the object file after the compiler has seen it.
                unsafe { core::ptr::read_volatile(&raw const $name) }
            }
        )*
    };
}
mesh_ebpf_abi::for_each_constant!(define);
