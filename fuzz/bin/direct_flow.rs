#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mesh_fuzz_targets::direct_flow::run(data));
