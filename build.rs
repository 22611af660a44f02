//! Compiles the protobuf definitions without `protoc`: to messages, service and client stubs, a file
//! descriptor set, and the source of the remote backend.

use std::{env, error::Error, fs, path::PathBuf};

use heck::ToSnakeCase as _;
use prost_types::{FileDescriptorSet, MethodDescriptorProto};

/// The protobuf package of the service whose rpcs the gateway calls.
const PACKAGE: &str = "imagestore.v1";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(["imagestore/v1/image_store.proto"])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    fs::write(out.join("descriptor.bin"), compiler.encode_file_descriptor_set())?;
    fs::write(out.join("remote.rs"), remote(&compiler.file_descriptor_set()))?;
    // The codec identifies message types by their names.
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();
    // Their `Debug` forms leave out the secrets, see `src/wire/redacted.rs`.
    config.skip_debug([
        "imagestore.v1.CreateLinkResponse",
        "imagestore.v1.CreateTokenResponse",
        "imagestore.v1.RotateTokenResponse",
    ]);
    tonic_prost_build::configure()
        .codec_path("crate::wire::codec::Codec")
        .extern_path(".google.rpc.Status", "::tonic_types::Status")
        .bytes(".imagestore")
        .compile_fds_with_config(compiler.file_descriptor_set(), config)?;
    Ok(())
}

/// The source of the invocation of the macro `remote!` in `src/wire/backend.rs`: one line for each rpc,
/// grouped by which sides stream.
fn remote(descriptors: &FileDescriptorSet) -> String {
    let ours = descriptors.file.iter().filter(|file| file.package() == PACKAGE);
    let rpcs: Vec<&MethodDescriptorProto> =
        ours.flat_map(|file| &file.service).flat_map(|service| &service.method).collect();
    let groups = [
        ("unary", (false, false)),
        ("server_streaming", (false, true)),
        ("client_streaming", (true, false)),
        ("bidirectional", (true, true)),
    ];
    let mut text = "remote! {\n".to_owned();
    for (group, shape) in groups {
        text.push_str(&format!("    {group} {{\n"));
        for rpc in &rpcs {
            if (rpc.client_streaming(), rpc.server_streaming()) == shape {
                text.push_str(&line(rpc));
            }
        }
        text.push_str("    }\n");
    }
    text + "}\n"
}

/// One line of the invocation, such as `stat(v1::StatRequest) -> v1::StatResponse;`.
fn line(rpc: &MethodDescriptorProto) -> String {
    let message = |name: &str| name.replacen(&format!(".{PACKAGE}."), "v1::", 1);
    let (request, response) = (message(rpc.input_type()), message(rpc.output_type()));
    let stream =
        if rpc.server_streaming() { format!(" as {}Stream", rpc.name()) } else { String::new() };
    format!("        {}({request}) -> {response}{stream};\n", rpc.name().to_snake_case())
}
