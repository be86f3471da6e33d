"""A lane: one UNet on its device, drawing one request at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from swiftdiffusion.adapters.bounded import BoundedLoras
from swiftdiffusion.adapters.loading import FoundLora, LoraLoader
from swiftdiffusion.adapters.opening import open_store
from swiftdiffusion.adapters.patching import Patcher
from swiftdiffusion.adapters.targets import Targets
from swiftdiffusion.configuration import split_names
from swiftdiffusion.controlnets.attachment import Terms
from swiftdiffusion.controlnets.catalogue import Catalogue
from swiftdiffusion.controlnets.client import AttachedControlNets, ControlNetClient
from swiftdiffusion.controlnets.library import ControlNetLibrary
from swiftdiffusion.controlnets.mailbox import Form
from swiftdiffusion.controlnets.repair import Repairs
from swiftdiffusion.controlnets.resident import ResidentControlNets
from swiftdiffusion.denoising.advance import Advance
from swiftdiffusion.denoising.branch import Branch
from swiftdiffusion.denoising.conditioning import Conditioning, condition
from swiftdiffusion.denoising.loop import Step, denoise
from swiftdiffusion.denoising.noise import draw_noise
from swiftdiffusion.denoising.plan import Plan, make_plan
from swiftdiffusion.denoising.schedulers import load_scheduler_config
from swiftdiffusion.denoising.stopwatch import Stopwatch
from swiftdiffusion.denoising.timeline import Timeline
from swiftdiffusion.engines import make_engine
from swiftdiffusion.lane_configuration import LaneConfiguration
from swiftdiffusion.networks.vae_decoder import read_latent_extent
from swiftdiffusion.placement import Placement, choose_second
from swiftdiffusion.request.images import JPEG_QUALITY, encode_preview, require_room
from swiftdiffusion.request.parse import parse_request
from swiftdiffusion.request.references import Images, begin_decoding
from swiftdiffusion.request.request import PictureRequest
from swiftdiffusion.request.result import Picture, Progress
from swiftdiffusion.services.clients import Answer, Call, TextEncoderClient, VaeDecoderClient
from swiftdiffusion.unets import Share, UNets

PLANS = 64  # schedulers' courses kept, a few KB each
PREVIEW_LATENTS = 32  # a preview's longer side in latents: decoding it costs little at any picture size


@dataclass(frozen=True)
class AcceptedRequest:
    """A request that can be served, and its LoRAs as they were found."""

    request: PictureRequest
    loras: tuple[FoundLora, ...]


class Lane:
    """A UNet, its LoRAs and its way to the other models."""

    def __init__(
        self,
        configuration: LaneConfiguration,
        placement: Placement,
        call: Call,
        catalogue: Catalogue,
        repairs: Repairs | None = None,
    ) -> None:
        """Args: parameters, where the UNet runs, how models are called, which serve ControlNets, who mends those."""
        folder = configuration.pipeline
        self._configuration = configuration
        self._placement = placement
        self._call = call
        self._repairs = repairs
        kind, captures = configuration.engine, configuration.captures
        placements = [placement, *choose_second(configuration.second_gpu, placement)]
        self._unets = UNets(folder, configuration, placements)
        self._advance = make_engine("torch" if kind == "torch" else "auto", Advance(), placement, captures=captures)
        self._patcher = Patcher({"unet": self._unets.patched}, placements, configuration.pristine_weights == "host")
        self._loader = LoraLoader(
            open_store(configuration),
            Targets.read(folder),
            ("unet",),
            placement.device,
            configuration.lora_cache_mb * 2**20,
        )
        timeout_s = configuration.service_timeout_s
        self._text_encoder = TextEncoderClient(call, configuration.text_encoder, placement.dtype, timeout_s)
        self._vae_decoder = VaeDecoderClient(call, configuration.vae_decoder, timeout_s)
        terms = Terms(
            configuration.controlnet_transport,
            configuration.controlnet_timeout_s,
            timeout_s,
            near_first=configuration.controlnet_near_first,
        )
        tokens = json.loads((folder / "text_encoder" / "config.json").read_text())["max_position_embeddings"]
        resident = ResidentControlNets(
            {
                place.device: ControlNetLibrary(configuration.controlnets, configuration, tokens, place)
                for place in placements
                if configuration.controlnets is not None
            },
            configuration.controlnets_memory_mb,
            split_names(configuration.controlnets_pinned),
        )
        mailboxes = 2 * configuration.controlnets_max
        self._controlnets = ControlNetClient(call, catalogue, resident, terms, mailboxes)
        scheduler_config = load_scheduler_config(folder)
        self._plan = lru_cache(PLANS)(lambda scheduler, steps: make_plan(scheduler, scheduler_config, steps))
        self._placed_plan = lru_cache(PLANS)(lambda scheduler, steps: self._plan(scheduler, steps).on(placement.device))
        self._latent_channels, self._latent_scale = read_latent_extent(folder)
        index = json.loads((folder / "model_index.json").read_text())
        self._zeros_for_no_negative: bool = index.get("force_zeros_for_empty_prompt", True)
        for height, width in configuration.warm_up_sizes:
            self._warm_up(tokens, height, width)

    def accept(self, tensors: Mapping[str, NDArray[Any]]) -> AcceptedRequest:
        """Check a request before any work, its LoRAs' files included; its reference images but for their data.

        Raises:
            SwiftDiffusionError: as `parse_request`, `make_plan`, `UNets.require_size`, `Catalogue.require` and
                `LoraLoader.inspect` do.
        """
        request = parse_request(tensors, self._configuration, self._controlnets.names)
        self._plan(request.scheduler, request.steps)
        self._unets.require_size(request.guided, request.height, request.width)
        for use in request.controls:
            self._controlnets.require(use.name)
        loras = tuple(self._loader.inspect(lora.name) for lora in request.loras)
        if "lora_bound" not in tensors:
            measured = [lora.profile.scale_to(request.steps) for lora in loras if lora.profile is not None]
            unmeasured = [request.lora_bound] * (len(loras) > len(measured))
            request = replace(request, lora_bound=min(measured + unmeasured, default=request.lora_bound))
            require_room(request.output_format, request.describe())  # of which this is a part
        return AcceptedRequest(request, loras)

    def draw(
        self, accepted: AcceptedRequest, check: Callable[[], None], report: Callable[[Progress], None] | None
    ) -> Picture:
        """Draw one picture. The request's LoRAs stay in the weights for the next one, which may want the same.

        Args:
            accepted: what `accept` gave.
            check: raises when the picture is no longer wanted; asked at least once a step.
            report: called after every step; without it there are no previews.

        Raises:
            InvalidArgument: in the first step at the latest, a reference image whose data are broken: it is decoded
                while the prompts are encoded.
            SwiftDiffusionError: what `check` or another model raised.
        """
        request = accepted.request
        stopwatch = Stopwatch(Timeline() if request.trace else None)
        check()
        with begin_decoding(use.reference for use in request.controls) as images:
            encoding = self._begin_encoding(accepted)  # what follows runs beside it
            plan: Plan = self._plan(request.scheduler, request.steps)
            with stopwatch("loras"):
                loras = BoundedLoras(
                    self._loader,
                    self._patcher,
                    accepted.loras,
                    [lora.scale for lora in request.loras],
                    request.lora_bound,
                    self._configuration.lora_timeout_s,
                    check,
                )
            generator = torch.Generator("cpu").manual_seed(request.seed)
            latents = self._draw_noise(request, generator) * plan.noise_scale

            def before_step(step: int) -> None:
                check()
                with stopwatch("loras", self._placement.device):
                    loras.settle(step)

            def after_step(step: Step) -> None:
                if report is None:
                    return
                with stopwatch("preview"):
                    report(Progress(step.number, step.of, stopwatch.total, self._preview(request, step, stopwatch)))

            shares = self._unets.share(2 if request.guided else 1)
            with self._attach(request, images, shares, latents.shape, plan.timesteps, check) as attached:
                with stopwatch("text_encoder"):
                    conditioning, cached = self._condition(request, encoding, stopwatch)
                with stopwatch("controlnet_attach"):
                    given = [share.take(conditioning) for share in shares]
                    for controlnets, steering in zip(attached, given, strict=True):
                        controlnets.hand_over(steering)
                    steerings = [part.to(share.placement.device) for share, part in zip(shares, given, strict=True)]
                    branches = [
                        Branch(share.unet, steering, controlnets.wait(check), share.rows)
                        for share, steering, controlnets in zip(shares, steerings, attached, strict=True)
                    ]
                latents = denoise(
                    branches,
                    self._advance,
                    self._placed_plan(request.scheduler, request.steps),
                    latents,
                    request.guidance_scale,
                    generator,
                    before_step,
                    after_step,
                    stopwatch,
                )
                check()
                with stopwatch("vae_decoder"):
                    decoding = self._vae_decoder.begin(latents, JPEG_QUALITY * (request.output_format == "jpeg"))
                for controlnets in attached:  # which end while the latents are decoded
                    controlnets.check()
        with stopwatch("vae_decoder"):
            decoded = self._vae_decoder.read(decoding, stopwatch)
        for part, name, start, end in loras.spans():
            stopwatch.note(part, f"LoRA {name}", start, end)
        for controlnets in attached:
            controlnets.note_spans(stopwatch)
        return Picture(
            request,
            decoded,
            loras.describe(),
            attached[0].describe(),
            cached,
            stopwatch.report(),
            stopwatch.report_spans(),
        )

    def close(self) -> None:
        """End the loader's threads and free what is shared with ControlNets."""
        self._loader.close()
        self._controlnets.close()
        if self._repairs is not None:
            self._repairs.close()

    def _warm_up(self, tokens: int, height: int, width: int) -> None:
        sample = (1, self._latent_channels, height // self._latent_scale, width // self._latent_scale)
        noise = self._unets.warm_up(tokens, sample, height, width)
        plan = self._placed_plan(self._configuration.scheduler, 1)
        self._advance(noise, plan.start(noise[:1]), None, plan.steer(1.0, len(noise))[0])

    def _begin_encoding(self, accepted: AcceptedRequest) -> Answer:
        request = accepted.request
        negative = [] if self._is_wordless(request) or not request.guided else [request.negative_prompt or ""]
        # the others' files need not be understood there once more
        acting = [use for use, found in zip(request.loras, accepted.loras, strict=True) if found.changes_prompts]
        return self._text_encoder.begin([*negative, request.prompt], acting)

    def _condition(self, request: PictureRequest, encoding: Answer, stopwatch: Stopwatch) -> tuple[Conditioning, bool]:
        """The request's conditioning, and whether every prompt in it was remembered."""
        encoded = self._text_encoder.read(encoding, stopwatch)
        embeddings = [embedding for embedding, _ in encoded]
        conditioning = condition(embeddings, request.height, request.width, int(self._is_wordless(request)))
        return conditioning, all(cached for _, cached in encoded)

    def _is_wordless(self, request: PictureRequest) -> bool:
        """Whether the negative half has zeros instead of a prompt."""
        return request.guided and request.negative_prompt is None and self._zeros_for_no_negative

    def _draw_noise(self, request: PictureRequest, generator: torch.Generator) -> Tensor:
        height, width = request.height // self._latent_scale, request.width // self._latent_scale
        return draw_noise(generator, self._latent_channels, height, width).to(self._placement.device)

    @contextmanager
    def _attach(
        self,
        request: PictureRequest,
        images: Images,
        shares: Sequence[Share],
        latents: torch.Size,
        timesteps: Tensor,
        check: Callable[[], None],
    ) -> Iterator[list[AttachedControlNets]]:
        """Attach the request's ControlNets to each share of its guidance batch; at the end they are let go."""
        with ExitStack() as stack:
            attached = []
            for share in shares:
                _, channels, height, width = latents
                form = Form(
                    device=share.placement.device,
                    dtype=share.placement.dtype,
                    sample=(share.batch, channels, height, width),
                    residuals=self._unets.count_residuals(share.batch, height, width),
                )
                # on another branch's GPU a ControlNet would have to take turns with that branch
                near = len(shares) > 1
                attached.append(self._controlnets.attach(request.controls, form, timesteps, near, request.trace))
                stack.callback(attached[-1].close)
            models = {model for controlnets in attached for model in controlnets.models()}
            with ExitStack() if self._repairs is None else self._repairs.watch(models):
                for controlnets in attached:
                    controlnets.prepare(check)
                for controlnets in attached:
                    controlnets.show(images)
                yield attached

    def _preview(self, request: PictureRequest, step: Step, stopwatch: Stopwatch) -> bytes:
        if not request.preview_every or step.number % request.preview_every or step.number == step.of:
            return b""
        latents = step.clean
        longest = max(latents.shape[2:])
        if longest > PREVIEW_LATENTS:
            latents = interpolate(latents, scale_factor=PREVIEW_LATENTS / longest, mode="area")
        return encode_preview(self._vae_decoder.read(self._vae_decoder.begin(latents), stopwatch)["pixels"])
