"""Build the contracts: Python messages and stubs, and one descriptor image for lint and OpenAPI.

Output goes to `proto/gen` (importable as `aerostic.*` and `buf.validate.*`) and is never committed. Nothing
third-party is vendored: `google/api` comes from googleapis-common-protos, the well-known types from grpcio-tools,
and the validation rules from the descriptor inside the installed protovalidate.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import google.api
import grpc_tools
from google.protobuf import descriptor_pb2
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "proto"
OUTPUT = SOURCES / "gen"
IMAGE = "aerostic.binpb"
RULES = "buf/validate/validate.proto"


def main() -> None:
    ours = sorted(str(path.relative_to(SOURCES)) for path in SOURCES.glob("aerostic/**/*.proto"))
    with tempfile.TemporaryDirectory() as scratch:
        built = Path(scratch) / "gen"
        built.mkdir()
        rules = Path(scratch) / "rules.binpb"
        rules.write_bytes(validation_rules().SerializeToString())
        inputs = [
            f"--descriptor_set_in={rules}",
            f"--proto_path={SOURCES}",
            f"--proto_path={Path(next(iter(google.api.__path__))).parent.parent}",
            f"--proto_path={Path(next(iter(grpc_tools.__path__))) / '_proto'}",
        ]
        image = [f"--descriptor_set_out={built / IMAGE}", "--include_imports", "--include_source_info"]
        messages = [f"--python_out={built}", f"--mypy_out=quiet:{built}"]
        services = [f"--grpc_python_out={built}", f"--mypy_grpc_out=quiet:{built}"]
        run_protoc([*inputs, *image, *messages, *services, *ours])
        run_protoc([*inputs, *messages, RULES])
        # Inside of the package too, so that it is installed with it: OpenAPI takes the comments from it.
        shutil.copy(built / IMAGE, built / "aerostic" / IMAGE)
        publish(built)


def validation_rules() -> descriptor_pb2.FileDescriptorSet:
    """The rules' own proto as protovalidate carries it, so that rules and engine never differ."""
    from protovalidate._gen.buf.validate import validate_pb  # noqa: PLC0415 (only the build needs it)

    file = descriptor_pb2.FileDescriptorProto.FromString(validate_pb._DESC.proto.to_binary())  # noqa: SLF001
    return descriptor_pb2.FileDescriptorSet(file=[file])


def run_protoc(arguments: list[str]) -> None:
    # protoc looks for its plugins on PATH; ours lie beside this interpreter, activated or not.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    if protoc.main(["protoc", *arguments]) != 0:
        sys.exit("The protos do not compile; see the messages above.")


def publish(built: Path) -> None:
    """Replace the last build at once, so that a process starting now sees either build whole."""
    for package in {path.parent for path in built.rglob("*_pb2.py")}:
        (package / "py.typed").touch()
    fresh = OUTPUT.with_name("gen.new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(built, fresh)
    if OUTPUT.exists():
        old = OUTPUT.with_name("gen.old")
        shutil.rmtree(old, ignore_errors=True)
        OUTPUT.rename(old)
        fresh.rename(OUTPUT)
        shutil.rmtree(old)
    else:
        fresh.rename(OUTPUT)


if __name__ == "__main__":
    main()
