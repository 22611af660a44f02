//! Compiles the protobuf definitions, without a `protoc`.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(["imagestore/v1/image_store.proto"])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    fs::write(out.join("descriptor.bin"), compiler.encode_file_descriptor_set())?;
    // The codec tells messages apart by their names.
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();
    tonic_prost_build::configure()
        .codec_path("crate::wire::codec::Codec")
        .extern_path(".google.rpc.Status", "::tonic_types::Status")
        .bytes(".imagestore")
        .compile_fds_with_config(compiler.file_descriptor_set(), config)?;
    Ok(())
}
