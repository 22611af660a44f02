"""A gRPC client that knows only what the reflection of a server returns."""

from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

CALL_SECONDS = 240


class Service:
    """The methods of one service, called by their names."""

    def __init__(self, channel: grpc.Channel, pool: descriptor_pool.DescriptorPool, name: str):
        self._channel = channel
        self._descriptor = pool.FindServiceByName(name)
        self.deadline_seconds = CALL_SECONDS

    def methods(self) -> set[str]:
        """Returns the names of all methods."""
        return {method.name for method in self._descriptor.methods}

    def call(self, method: str, request: Any = None, **fields: Any) -> Any:
        """Calls a method.

        The request is made of `fields`; for a streamed request, `request` yields the fields of each message. Returns
        the response, or for a streamed response the call, which iterates over the messages.
        """
        stub, argument = self._prepare(method, request, fields)
        return stub(argument, timeout=self.deadline_seconds)

    def start(self, method: str, request: Any = None, **fields: Any) -> Any:
        """Begins a call with a single response, without waiting; the response is the result of the call."""
        stub, argument = self._prepare(method, request, fields)
        return stub.future(argument, timeout=self.deadline_seconds)

    def _prepare(self, method: str, request: Any, fields: dict[str, Any]) -> tuple[Any, Any]:
        """Returns a function that makes the call, and its argument."""
        descriptor = self._descriptor.methods_by_name[method]
        make = message_factory.GetMessageClass(descriptor.input_type)
        client, server = descriptor.client_streaming, descriptor.server_streaming
        shape = f"{'stream' if client else 'unary'}_{'stream' if server else 'unary'}"
        stub = getattr(self._channel, shape)(
            f"/{self._descriptor.full_name}/{method}",
            request_serializer=make.SerializeToString,
            response_deserializer=message_factory.GetMessageClass(descriptor.output_type).FromString,
        )
        argument = (make(**message) for message in request) if client else make(**fields)
        return stub, argument


class Reflection:
    """The reflection of a server."""

    def __init__(self, address: str, channel: grpc.Channel | None = None) -> None:
        self._channel = channel or grpc.insecure_channel(address)
        self._database = ProtoReflectionDescriptorDatabase(self._channel)
        # A separate pool, so that descriptors that this process has loaded are not used.
        self.pool = descriptor_pool.DescriptorPool(self._database)

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def services(self) -> set[str]:
        """Returns the names of all services."""
        return set(self._database.get_services())

    def service(self, name: str) -> Service:
        """Finds a service."""
        return Service(self._channel, self.pool, name)

    def services_by_v1(self) -> set[str]:
        """Returns the names of all services through reflection v1, whose messages equal those of v1alpha."""
        list_services = self._channel.stream_stream(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        answer = next(list_services(iter([request]), timeout=CALL_SECONDS))
        return {service.name for service in answer.list_services_response.service}


def as_dict(message: Message) -> dict[str, Any]:
    """Returns all fields of a message, also those with default values."""
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def details(error: grpc.RpcError) -> dict[type[Message], Any]:
    """Returns the details of an error by their types."""
    trailers: dict[str, Any] = dict(error.trailing_metadata())
    return dict(unpack(status_pb2.Status.FromString(trailers["grpc-status-details-bin"])))


def unpack(status: status_pb2.Status) -> Iterator[tuple[type[Message], Any]]:
    """Unpacks the details of the types that the tests use."""
    for packed in status.details:
        for kind in [
            error_details_pb2.ErrorInfo,
            error_details_pb2.BadRequest,
            error_details_pb2.RetryInfo,
        ]:
            message = kind()
            if packed.Unpack(message):
                yield kind, message
