"""The user service: a package is a resource."""

SERVICE_NAME = "cloudnative-user-api"
# Names from which an attacker who knows the service would make guesses at passwords.
SERVICE_WORDS = (__name__, *SERVICE_NAME.partition("-")[::2])
