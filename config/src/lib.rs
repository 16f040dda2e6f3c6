//! Switchboard's configuration files as typed settings, with diagnostics that point at the mistake.
