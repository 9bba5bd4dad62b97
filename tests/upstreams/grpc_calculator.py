"""The gRPC servers of the articles: python -m tests.upstreams.grpc_calculator all|adder|subtracter PORT.

A calculator with four operations and a square root; and the two nodes of a small distributed system, of which one adds
and the other subtracts.
"""

import math
import sys
from concurrent import futures
from typing import Any

import grpc

protos, services = grpc.protos_and_services("tests/upstreams/calculator.proto")


class Adder(services.CalculatorServicer):  # type: ignore[misc, name-defined]
    def Add(self, request: Any, context: Any) -> Any:  # noqa: N802 - as in the .proto
        return protos.Result(value=request.a + request.b)


class Subtracter(services.CalculatorServicer):  # type: ignore[misc, name-defined]
    def Subtract(self, request: Any, context: Any) -> Any:  # noqa: N802 - likewise
        return protos.Result(value=request.a - request.b)


class Calculator(Adder, Subtracter):
    def Multiply(self, request: Any, context: Any) -> Any:  # noqa: N802 - likewise
        return protos.Result(value=request.a * request.b)

    def Divide(self, request: Any, context: Any) -> Any:  # noqa: N802 - likewise
        if request.b == 0:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "division by zero")
        return protos.Result(value=request.a / request.b)


class Calculate(services.CalculateServicer):  # type: ignore[misc, name-defined]
    def Square(self, request: Any, context: Any) -> Any:  # noqa: N802 - likewise
        return protos.Number(value=math.sqrt(request.value))


def main() -> None:
    server = grpc.server(futures.ThreadPoolExecutor(10))
    kinds = {"all": Calculator, "adder": Adder, "subtracter": Subtracter}
    services.add_CalculatorServicer_to_server(kinds[sys.argv[1]](), server)
    services.add_CalculateServicer_to_server(Calculate(), server)
    server.add_insecure_port(f"127.0.0.1:{sys.argv[2]}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
