"""Answers with what it was sent; can be told to take long, or to fail, when it is loaded."""

import json
import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One input, one output of the same text."""

    @staticmethod
    def auto_complete_config(config):
        config.add_input({"name": "text", "data_type": "TYPE_STRING", "dims": [1]})
        config.add_output({"name": "text", "data_type": "TYPE_STRING", "dims": [1]})
        config.set_max_batch_size(0)
        return config

    def initialize(self, args):
        parameters = {
            name: value["string_value"]
            for name, value in json.loads(args["model_config"]).get("parameters", {}).items()
        }
        time.sleep(float(parameters.get("load_seconds", 0)))
        if "load_error" in parameters:
            raise pb_utils.TritonModelException(parameters["load_error"])

    def execute(self, requests):
        return [
            pb_utils.InferenceResponse([pb_utils.get_input_tensor_by_name(request, "text")]) for request in requests
        ]
