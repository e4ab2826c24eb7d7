"""Where the package's own files lie: in the source tree while developing, inside the package once installed."""

from pathlib import Path

PACKAGE = Path(__file__).parent
DATA = PACKAGE / "data"
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parents[1] / "conf"
