//! Changes to headers.

use mesh_model::l7::HeaderMutation;
use mesh_xds_proto::core;
use mesh_xds_proto::core::header_value_option::HeaderAppendAction;

/// What is set or added: set first, as the model has it.
pub(super) fn to_add(headers: &HeaderMutation) -> Vec<core::HeaderValueOption> {
    let set = headers.set.iter().map(|pair| (pair, HeaderAppendAction::OverwriteIfExistsOrAdd));
    let add = headers.add.iter().map(|pair| (pair, HeaderAppendAction::AppendIfExistsOrAdd));
    set.chain(add)
        .map(|((name, value), action)| core::HeaderValueOption {
            header: Some(core::HeaderValue {
                key: name.clone(),
                // Envoy reads `%` as the start of a command operator.
                value: value.replace('%', "%%"),
                ..Default::default()
            }),
            append_action: action.into(),
            // A header set to nothing is still set.
            keep_empty_value: value.is_empty(),
            ..Default::default()
        })
        .collect()
}
