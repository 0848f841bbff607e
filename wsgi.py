"""What WSGI servers import: `wsgi:application`."""

import sys

from rkllama_flask.app import create_app
from rkllama_flask.settings import SettingsError

try:
    application = create_app()
except SettingsError as error:
    sys.exit(f"rkllama-flask can't start: {error}")
