//! Builds libzmq with libsodium, which no crate does, if ZeroMQ is asked for.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "zeromq")]
    {
        let of_sodium = |name: &str| std::env::var_os(name).expect("libsodium tells where it is");
        let sodium = zeromq_src::LibLocation::new(
            of_sodium("DEP_SODIUM_LIB"),
            of_sodium("DEP_SODIUM_INCLUDE"),
        );
        zeromq_src::Build::new().with_libsodium(Some(sodium)).build();
    }
}
