"""Grad-CAM, the baseline that asks which positions the similarity depends on."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gl_ris.clip.image import ImageContext
from gl_ris.scorers.base import Scorer, Texts, inside_masks

# Of a gradient in float16, whose smallest parts would be lost.
_SCALE = 256.0
# Maps that are resized to the image together, which bounds the memory.
_AT_ONCE = 64


class GradCAM(Scorer):
    """Sum over the mask of the activation map for the similarity of the image and the sentence (Eq. 6).

    The map is the ReLU of the weighted sum over channels of the last feature map; a channel weighs as much as
    the gradient of the cosine with respect to it, averaged over positions. The last map is CLIPCAM's: on a
    ResNet what enters the attention pooling; on a ViT the grid tokens as the last block's attention reads
    them, behind its first norm, while what the residual connection carries stays as it is. (The function that
    the paper's authors published turns the gradient's sign, normalises the map per position and has no ReLU;
    it finds next to nothing, and is not followed.)

    The map is resized to the image (bilinear) and *summed* over the pixels of a mask, or averaged, as
    ``grad_cam_pooling`` of the recipe says. (The paper says that the masked map is aggregated, and no more.)
    In a sum area is not divided out: no value is negative, so larger masks are favoured, and a mask never
    scores less than one inside it. Where no value is positive, every mask scores 0.

    ``alpha``, ``beta`` and ``masked_blocks`` have no influence, nor has what the recipe says about grid
    masks, crops and mixing: it is always a cosine.
    """

    name = "grad_cam"
    title = "Grad-CAM"
    whole_sentence = True
    cosines = False

    def prepare(self, context: ImageContext) -> None:
        """Compute the last feature map."""
        context.image_state(self.recipe, 1)

    # Lightning predicts in inference mode, where there are no gradients; its tensors can be copied out of it.
    @torch.inference_mode(False)
    @torch.enable_grad()
    def maps(self, context: ImageContext, expressions: Texts) -> Tensor:
        """Activation maps, float32 ``(E, rows, columns)``, none negative; the grid covers the image.

        One pass from the last map onwards, and one backward pass for all texts; without gradients.
        """
        state = context.image_state(self.recipe, 1)
        last_map, text = self.clip.tower.last_map(state)[0].detach(), self.text_features(expressions).clone()
        # Summed over positions, the gradient with respect to the map is that with respect to a vector that is
        # added to all of them. Each text has a vector of its own, so the sum of all cosines gives them all.
        shifts = last_map.new_zeros(len(text), len(last_map)).requires_grad_()
        features = self.clip.tower.pool(state, shifts).float()
        similarity = (F.normalize(text, dim=-1) * F.normalize(features, dim=-1)).sum()
        (gradients,) = torch.autograd.grad(_SCALE * similarity, shifts)
        weights = gradients.float() / (_SCALE * last_map[0].numel())
        return torch.einsum("ec,chw->ehw", weights, last_map.float()).relu()

    def score(self, context: ImageContext, expressions: Texts, noun_phrases: Texts | None) -> Tensor:
        """Sum or average the map over each mask."""
        parts = self.maps(context, expressions).split(_AT_ONCE)
        return torch.cat([inside_masks(maps, context.bits, self.recipe.grad_cam_pooling) for maps in parts])
