"""How weights are stored: packed arrays, and an ONNX function that decodes them."""

from .base import DOMAIN as DOMAIN
from .base import Format as Format
from .base import find_format as find_format
from .base import format_names as format_names
from .base import format_of_operator as format_of_operator
