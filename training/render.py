"""Frames drawn on the GPU from signed distance fields, at the model's own grid, and worn as a video's frames are.

Nothing is shared with `caption_assets.demo.draw`, which makes the clips that the model is then tested on.
"""

import math

import torch
import torch.nn.functional as F

from training.clips import CELL, Batch

CIRCLE, SQUARE, TRIANGLE, STAR = range(4)


def draw(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Clean frames (B, T, 3, H, W) in [0, 1] and each object's visible coverage (B, T, 2, H, W)."""
    rows, columns = batch.grid
    height, width = rows * CELL, columns * CELL
    clips, count = batch.states.shape[:2]
    across, down = batch.extent[0] / width, batch.extent[1] / height
    x = (torch.arange(width, device=batch.states.device) + 0.5) * across
    y = (torch.arange(height, device=batch.states.device) + 0.5) * down
    pixel = torch.sqrt(across * down)
    image = batch.background_rgb[:, None, :, None, None].expand(clips, count, 3, height, width)
    covers = []
    progress = torch.linspace(-0.5, 0.5, count, device=batch.states.device)
    for j in range(2):
        cover = _cover(
            batch.states[:, :, j],
            batch.form[:, j, 0, None] + batch.form[:, j, 1, None] * progress,
            batch.form[:, j, 2],
            batch.form[:, j, 3],
            batch.shape[:, j],
            batch.look[:, 0],
            x,
            y,
            pixel,
        )
        image = image + cover[:, :, None] * (batch.rgb[:, j, None, :, None, None] - image)
        covers = [c * (1 - cover) for c in covers] + [cover]
    return image, torch.stack(covers, 2)


def _cover(
    state: torch.Tensor,
    tilt: torch.Tensor,
    proportion: torch.Tensor,
    tips: torch.Tensor,
    shape: torch.Tensor,
    softness: torch.Tensor,
    x: torch.Tensor,
    y: torch.Tensor,
    pixel: torch.Tensor,
) -> torch.Tensor:
    """Coverage (B, T, H, W) of one object a clip at columns `x` and rows `y`; `pixel` is a pixel's width."""
    dx = x[None, None, None, :] - state[..., 0, None, None]
    dy = y[None, None, :, None] - state[..., 1, None, None]
    cos, sin = tilt.cos()[..., None, None], tilt.sin()[..., None, None]
    u, v = dx * cos + dy * sin, dy * cos - dx * sin
    radius = state[..., 2, None, None] / 2
    form = proportion[:, None, None, None]
    kind = shape[:, None, None, None]
    length = torch.sqrt(u * u + v * v + 1e-12)
    square = torch.maximum(u.abs() - radius, v.abs() - radius * form)
    # Isosceles triangle, `form` times as high as it is wide.
    half = radius * form
    slope = torch.sqrt(4 * form * form + 1)
    triangle = torch.maximum(v - half, (u.abs() * 2 * form - (v + half)) / slope)
    sector = 2 * math.pi / tips[:, None, None, None]
    angle = torch.atan2(u, -v)
    angle = (torch.remainder(angle + sector / 2, sector) - sector / 2).abs()
    a, b = length * torch.cos(angle), length * torch.sin(angle)
    da, db = form * radius * torch.cos(sector / 2) - radius, form * radius * torch.sin(sector / 2)
    star = (b * -da + (a - radius) * db) / torch.sqrt(da * da + db * db + 1e-12)
    distance = torch.where(
        kind == CIRCLE,
        length - radius,
        torch.where(kind == SQUARE, square, torch.where(kind == TRIANGLE, triangle, star)),
    )
    cover = (0.5 - distance / (pixel * softness[:, None, None, None])).clamp(0, 1)
    return torch.where(state[..., 2, None, None] > 0, cover, torch.zeros_like(cover))


def wear(image: torch.Tensor, look: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """What cameras, 4:2:0, an encoder and scaling do to frames (B, T, 3, H, W): tone, chroma blur, blocks, noise."""
    clips, count, _, height, width = image.shape
    frames = image.reshape(clips * count, 3, height, width)
    dice = torch.rand(8, generator=generator, device=image.device).tolist()
    tone = look.to(image.dtype)[:, None].expand(clips, count, 4).reshape(-1, 4)[:, :, None, None, None]
    frames = (frames.clamp(1e-4, 1) ** tone[:, 3] * tone[:, 2]).clamp(0, 1)
    if dice[0] < 0.35:  # scaled up from fewer pixels
        scale = 1.2 + dice[1]
        small = (max(8, round(height / scale)), max(8, round(width / scale)))
        frames = F.interpolate(frames, small, mode="area")
        frames = F.interpolate(frames, (height, width), mode="bicubic" if dice[1] < 0.6 else "bilinear").clamp(0, 1)
    grain = torch.randn(frames.shape, generator=generator, device=image.device, dtype=frames.dtype)
    early = dice[2] < 0.5  # noise of the source passes through the encoder, noise of the encoder does not
    if early:
        frames = frames + grain * tone[:, 1]
    luma, chroma = _to_ycc(frames)
    if dice[3] < 0.85:
        scale = (1, 2, 2, 3)[int(dice[4] * 4)]
        if scale > 1:
            small = (height // scale, width // scale)
            chroma = F.interpolate(chroma, small, mode="area")
            chroma = F.interpolate(chroma, (height, width), mode="bilinear")
    if dice[5] < 0.6:
        step = 0.01 + 0.08 * dice[6] ** 2
        luma, chroma = _quantise(luma, step), _quantise(chroma, 1.5 * step)
    frames = _to_rgb(luma, chroma, other_matrix=dice[7] < 0.15)
    if not early:
        frames = frames + grain * tone[:, 1]
    return (frames.clamp(0, 1) * 255).round().div(255).reshape(clips, count, 3, height, width)


def _to_ycc(rgb: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    red, green, blue = rgb.unbind(1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return luma[:, None], torch.stack([(blue - luma) * 0.564, (red - luma) * 0.713], 1)


def _to_rgb(luma: torch.Tensor, chroma: torch.Tensor, other_matrix: bool) -> torch.Tensor:
    cb, cr = chroma[:, :1], chroma[:, 1:]
    if other_matrix:  # BT.601 read as BT.709
        return torch.cat([luma + 1.575 * cr, luma - 0.187 * cb - 0.468 * cr, luma + 1.856 * cb], 1)
    return torch.cat([luma + 1.403 * cr, luma - 0.344 * cb - 0.714 * cr, luma + 1.773 * cb], 1)


def _quantise(plane: torch.Tensor, step: float, block: int = 4) -> torch.Tensor:
    """Round the coefficients of 4x4 cosine blocks, as a coarse encoder does, and the high ones more coarsely."""
    count, channels, height, width = plane.shape
    k = torch.arange(block, device=plane.device, dtype=torch.float32)
    basis = torch.cos(math.pi / block * (k[None, :] + 0.5) * k[:, None]) * math.sqrt(2 / block)
    basis[0] /= math.sqrt(2)
    basis = basis.to(plane.dtype)
    steps = (step * (0.5 + 0.5 * (k[:, None] + k[None, :]))).to(plane.dtype)
    blocks = plane.reshape(count, channels, height // block, block, width // block, block)
    coefficients = torch.einsum("ui,bchiwj,vj->bchuwv", basis, blocks, basis)
    coefficients = (coefficients / steps[:, None, :]).round() * steps[:, None, :]
    return torch.einsum("ui,bchuwv,vj->bchiwj", basis, coefficients, basis).reshape(plane.shape)


def patches(frames: torch.Tensor) -> torch.Tensor:
    """Frames (B, T, 3, H, W) in [0, 1] to normalised patches (B * T/2, P, 1176), in the Qwen2-VL processor's order."""
    clips, count, _, height, width = frames.shape
    rows, columns = height // CELL, width // CELL
    half = CELL // 2
    x = ((frames - 0.5) / 0.5).reshape(clips, count // 2, 2, 3, rows, 2, half, columns, 2, half)
    x = x.permute(0, 1, 4, 7, 5, 8, 3, 2, 6, 9)
    return x.reshape(clips * (count // 2), rows * columns * 4, 3 * 2 * half * half)


def token_targets(batch: Batch, covers: torch.Tensor) -> dict[str, torch.Tensor]:
    """What each merged token of a frame pair can know (B * T/2, cells): the dense targets of the vision tower.

    `seen` (…, 2) is how much of the cell objects cover in each of the two frames; `here` whether one does at all;
    `shape`, `colour`, `motion` are of the object that covers most of it, and `path` (…, 6) is its column, row and log
    size in both frames; `place` (…, 2) the cell's own column and row. Columns and rows count eight cells.
    """
    clips, count = batch.states.shape[:2]
    rows, columns = batch.grid
    pooled = F.avg_pool2d(covers.reshape(clips * count, 2, *covers.shape[-2:]), CELL)
    pooled = pooled.reshape(clips, count // 2, 2, 2, rows * columns)
    total, which = pooled.sum(2).max(2)
    pick = lambda values: values[:, None, :].expand(-1, count // 2, -1).gather(2, which)  # noqa: E731
    scale = torch.tensor([columns, rows], device=covers.device) / batch.extent / 8
    state = torch.cat([batch.states[..., :2] * scale, batch.states[..., 2:].clamp(min=0.05).log()], -1)
    state = state.reshape(clips, count // 2, 2, 2, 3).transpose(2, 3).reshape(clips, count // 2, 2, 6)
    path = state.gather(2, which[..., None].expand(*which.shape, 6))
    motion = batch.motion.gather(2, which)
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    place = torch.stack([x, y], -1).reshape(1, -1, 2).to(covers) / 8
    flat = lambda v: v.reshape(clips * (count // 2), rows * columns, *v.shape[3:])  # noqa: E731
    return {
        "seen": flat(pooled.sum(3).transpose(2, 3)),
        "here": flat(total > 0.06),
        "shape": flat(pick(batch.shape)),
        "colour": flat(pick(batch.colour)),
        "background": batch.background.repeat_interleave(count // 2)[:, None].expand(-1, rows * columns),
        "path": flat(path),
        "motion": flat(motion),
        "place": place.expand(clips * (count // 2), -1, -1),
    }


def compile_parts() -> None:
    """Compile the arithmetic that runs once a pixel."""
    global _cover, _to_ycc, _to_rgb
    _cover = torch.compile(_cover, dynamic=True)
    _to_ycc = torch.compile(_to_ycc, dynamic=True)
    _to_rgb = torch.compile(_to_rgb, dynamic=True)
