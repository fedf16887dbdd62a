//! Socket addresses and sources of discovery.

use std::net::{IpAddr, SocketAddr};

use mesh_xds_proto::core::{self, address, config_source, socket_address};

use crate::check::{At, Checked, fields};

/// A TCP address with a numeric host and port.
pub(crate) fn socket_address(address: &Option<core::Address>, at: At<'_>) -> Checked<SocketAddr> {
    let Some(address::Address::SocketAddress(socket)) = address.as_ref().and_then(|a| a.address.as_ref())
    else {
        return Err(at.refuse("must be a socket_address"));
    };
    let at = at.field("socket_address");
    fields!(socket, at => core::SocketAddress {
        take: address, protocol, port_specifier;
        ignore: ipv4_compat;
        refuse: resolver_name, network_namespace_filepath
    });
    if *protocol != socket_address::Protocol::Tcp as i32 {
        return Err(at.field("protocol").refuse("only TCP"));
    }
    let host: IpAddr = address
        .parse()
        .map_err(|_| at.field("address").refuse(format!("{address:?} is not an IP address")))?;
    let Some(socket_address::PortSpecifier::PortValue(port)) = port_specifier else {
        return Err(at.field("port_value").refuse("missing"));
    };
    let port = u16::try_from(*port).map_err(|_| at.field("port_value").refuse("above 65535"))?;
    Ok(SocketAddr::new(host.to_canonical(), port))
}

/// Discovery must run over the stream that brought the resource.
pub(crate) fn over_ads(source: &Option<core::ConfigSource>, at: At<'_>) -> Checked<()> {
    match source.as_ref().and_then(|source| source.config_source_specifier.as_ref()) {
        Some(
            config_source::ConfigSourceSpecifier::Ads(_) | config_source::ConfigSourceSpecifier::Self_(_),
        ) => Ok(()),
        _ => Err(at.refuse("only ads")),
    }
}

/// Bytes given in the message itself.
pub(crate) fn inline(source: &core::DataSource, at: At<'_>) -> Checked<Vec<u8>> {
    fields!(source, at => core::DataSource { take: specifier; ignore: ; refuse: watched_directory });
    match specifier {
        Some(core::data_source::Specifier::InlineBytes(bytes)) => Ok(bytes.clone()),
        Some(core::data_source::Specifier::InlineString(text)) => Ok(text.clone().into_bytes()),
        None => Ok(Vec::new()),
        Some(_) => Err(at.refuse("only inline_bytes and inline_string: the proxy opens no files")),
    }
}
