//! Generates the Rust types of our .proto files; the gRPC clients and servers only with the feature `grpc`.

fn main() -> std::io::Result<()> {
    let grpc = std::env::var_os("CARGO_FEATURE_GRPC").is_some();
    let files = [
        "etcd/rpc.proto",
        "keelson/command.proto",
        "keelson/peer.proto",
    ];
    for dir in ["etcd", "keelson"] {
        println!("cargo:rerun-if-changed={dir}");
    }
    tonic_prost_build::configure()
        .build_client(grpc)
        .build_server(grpc)
        .bytes(".")
        .compile_protos(&files, &["."])
}
