//! Settings of broker and node: one TOML file each, in their data folder. Unknown keys are refused.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A settings file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("settings: {0}")]
pub struct SettingsError(String);

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `broker.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerSettings {
    /// Address and UDP port to listen on.
    pub listen: SocketAddr,
    /// How many deliveries a node may leave unacknowledged, 1 to 1,024.
    #[serde(default = "default_credit")]
    pub credit: u32,
    /// Size of a journal segment in MiB, 1 to 1,024.
    #[serde(default = "default_segment_mib")]
    pub segment_mib: u32,
    /// How the log is written.
    #[serde(default)]
    pub log: LogFormat,
}

/// `node.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSettings {
    /// Address and UDP port of the broker.
    pub broker: SocketAddr,
    /// Size of a journal segment in MiB, 1 to 1,024.
    #[serde(default = "default_segment_mib")]
    pub segment_mib: u32,
    /// How the log is written.
    #[serde(default)]
    pub log: LogFormat,
}

fn default_credit() -> u32 {
    64
}

fn default_segment_mib() -> u32 {
    64
}

impl BrokerSettings {
    /// Reads TOML text.
    ///
    /// # Errors
    /// [`SettingsError`] with line, column and what is wrong.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        let settings: Self = toml::from_str(text).map_err(|error| SettingsError(error.to_string()))?;
        in_range("credit", settings.credit, 1_024)?;
        in_range("segment_mib", settings.segment_mib, 1_024)?;
        Ok(settings)
    }
}

impl NodeSettings {
    /// Reads TOML text.
    ///
    /// # Errors
    /// [`SettingsError`] with line, column and what is wrong.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        let settings: Self = toml::from_str(text).map_err(|error| SettingsError(error.to_string()))?;
        in_range("segment_mib", settings.segment_mib, 1_024)?;
        Ok(settings)
    }
}

fn in_range(key: &str, value: u32, max: u32) -> Result<(), SettingsError> {
    let sound = (1..=max).contains(&value);
    if sound { Ok(()) } else { Err(SettingsError(format!("`{key}` is {value}; it must be from 1 to {max}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_with_its_place() {
        let error =
            BrokerSettings::parse("listen = \"127.0.0.1:7411\"\ncredits = 3\n").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("credits") && error.contains("credit"), "{error}");
    }

    #[test]
    fn a_value_out_of_range_is_refused() {
        assert!(BrokerSettings::parse("listen = \"127.0.0.1:7411\"\ncredit = 0\n").is_err());
        let settings = BrokerSettings::parse("listen = \"127.0.0.1:7411\"\n").unwrap();
        assert_eq!((settings.credit, settings.segment_mib), (64, 64));
    }
}
