"""A request for a picture: its inputs and outputs, its checks, its pictures' formats."""
