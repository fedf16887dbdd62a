//! The descriptors of all of envoy-types' messages, read once per process.

use std::sync::LazyLock;

use prost_reflect::{
    DescriptorPool, DynamicMessage, ExtensionDescriptor, FieldDescriptor, MessageDescriptor,
};

static SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Reading the set takes some milliseconds and megabytes, so a process that never prints or reads
/// JSON does not pay for it.
static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(SET).expect("the build script wrote a whole descriptor set"));

static SENSITIVE: LazyLock<ExtensionDescriptor> = LazyLock::new(|| {
    POOL.get_extension_by_name("udpa.annotations.sensitive").expect("Envoy's messages use this annotation")
});

/// The full name in a type URL: what follows the last slash.
pub(crate) fn full_name(type_url: &str) -> &str {
    type_url.rsplit('/').next().unwrap_or_default()
}

/// The descriptor of a message by its full name.
pub(crate) fn message(full_name: &str) -> Option<MessageDescriptor> {
    POOL.get_message_by_name(full_name)
}

/// The descriptors of all messages, the entries of maps among them.
#[cfg(test)]
pub(crate) fn all_messages() -> impl Iterator<Item = MessageDescriptor> {
    POOL.all_messages()
}

/// The descriptor of `google.protobuf.Any`.
pub(crate) fn any() -> MessageDescriptor {
    message("google.protobuf.Any").expect("every descriptor set has Any")
}

/// Whether Envoy marks the field as one that must not be shown.
pub(crate) fn is_sensitive(field: &FieldDescriptor) -> bool {
    let options: DynamicMessage = field.options();
    options.get_extension(&SENSITIVE).as_bool().unwrap_or(false)
}
