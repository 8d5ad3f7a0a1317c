"""A record of one expression by one method."""

from gl_ris.predictions import Prediction

RECORD = Prediction(
    image_id=581857,
    ref_id=16,
    sent_id=47,
    expression="the café's \u201cleft\u201d star",
    noun_phrase="star",
    method="Global-Local",
    choice=3,
    score=0.1,
    iou=0.25,
    intersection=1,
    union=4,
    segmentation={"size": [2, 2], "counts": "04"},
    index=0,
)
