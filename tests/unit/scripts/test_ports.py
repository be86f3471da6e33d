"""Ports that are free, and those that are not."""

import socket

import pytest

from launch.ports import Ports, check_ports, choose_free_ports
from launch.problems import LaunchError

HOST = "127.0.0.1"


def test_chosen_ports_are_free_and_differ():
    ports = choose_free_ports(HOST)
    assert len({ports.http, ports.grpc, ports.metrics}) == 3
    check_ports(ports, HOST)


@pytest.mark.parametrize("service", ["http", "grpc", "metrics"])
def test_taken_port_is_named_with_its_option(service):
    ports = choose_free_ports(HOST)
    port = getattr(ports, service)
    with (
        socket.create_server((HOST, port)),
        pytest.raises(LaunchError, match=rf"Port {port} of {HOST} cannot be used.*--{service}-port"),
    ):
        check_ports(ports, HOST)


def test_port_given_twice_is_named_with_both_options():
    port = choose_free_ports(HOST).http
    with pytest.raises(LaunchError, match=rf"Port {port} is given twice.*--http-port or --grpc-port"):
        check_ports(Ports(http=port, grpc=port), HOST)


def test_port_that_is_none_is_named():
    with pytest.raises(LaunchError, match=r"Port 70000 of.*--http-port"):
        check_ports(Ports(http=70000), HOST)
