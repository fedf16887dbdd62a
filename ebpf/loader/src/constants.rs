//! Values of the programs' load-time constants.

use aya::EbpfLoader;
use mesh_ebpf_abi::for_each_constant;

macro_rules! define {
    ($($(#[$doc:meta])* $name:ident $field:ident: $kind:ty = $default:expr;)*) => {
        /// Values of the programs' load-time constants; the default is what the programs are built with.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(rustdoc::broken_intra_doc_links)]
        pub struct Constants {
            $($(#[$doc])* pub $field: $kind,)*
        }

        impl Default for Constants {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl Constants {
            /// Sets all of them; one that the object file lacks makes the load fail.
            pub(crate) fn apply<'a>(&'a self, loader: &mut EbpfLoader<'a>) {
                $(loader.override_global(stringify!($name), &self.$field, true);)*
            }
        }
    };
}
for_each_constant!(define);
