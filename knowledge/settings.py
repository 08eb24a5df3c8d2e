"""Every setting, read from the environment once. `SHARDWISE_HOME` holds all that Shardwise writes."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Literal

from platformdirs import user_data_path
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """What can be configured; each field is the environment variable `SHARDWISE_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="SHARDWISE_", extra="forbid", frozen=True)

    home: Path = Field(
        default_factory=lambda: user_data_path("shardwise"), description="Where downloads, indexes and the store live."
    )
    vllm: str = Field("", description="The vLLM release to answer for; empty means the newest indexed one.")
    embedder: str = Field("bundled", description="`bundled`, `st:<model>` or `openai:<model>`.")
    model: str = Field("", description="Chat model name on an OpenAI-compatible server; empty answers without a model.")
    model_base_url: str = Field("", description="Base address of that server; empty means the openai client's default.")
    model_api_key: SecretStr = Field(SecretStr(""), description="Key for that server.")
    model_timeout_s: float = Field(30.0, gt=0, description="Longest wait for a whole answer of the model, in seconds.")
    embedding_base_url: str = Field("", description="Base address of the embedding server for `openai:` embedders.")
    embedding_api_key: SecretStr = Field(SecretStr(""), description="Key for the embedding server.")
    http_host: str = Field("127.0.0.1", description="Address `shardwise serve` binds to.")
    http_port: int = Field(8321, ge=0, le=65535, description="Port `shardwise serve` binds to.")
    http_tokens: SecretStr = Field(
        SecretStr(""), description="Bearer tokens for the HTTP API, comma-separated; empty allows loopback only."
    )
    http_embed: str = Field("", description="Sites that may show the page in a frame (the widget), separated by spaces.")
    questions_per_minute: int = Field(30, ge=1, description="Questions one token or address may ask in a minute.")
    database_url: str = Field("", description="SQLAlchemy address of the store; empty is a SQLite file in the home.")
    discord_token: SecretStr = Field(SecretStr(""), description="Token of the Discord bot for `shardwise discord`.")
    discord_reply: Literal["reply", "thread"] = Field("reply", description="Where it answers: as a reply, or in a thread.")
    discord_channels: str = Field("", description="Ids of the channels it listens in, comma-separated; empty means all.")
    discord_preview: str = Field("", description="Id of a channel where maintainers approve each answer before it goes out.")
    discord_dms: bool = Field(default=False, description="Answer direct messages as well (asks Discord for one more intent).")
    discourse_url: str = Field("", description="Address of the Discourse forum for `shardwise discourse`.")
    discourse_user: str = Field("shardwise", description="The bot's user name there.")
    discourse_api_key: SecretStr = Field(SecretStr(""), description="Single-user API key of that user.")
    discourse_secret: SecretStr = Field(SecretStr(""), description="Secret its webhook is signed with; empty means polling only.")
    github_token: SecretStr = Field(SecretStr(""), description="Token for reading GitHub threads.")
    github_api: str = Field("https://api.github.com", description="GitHub's REST address.")

    @cached_property
    def cache(self) -> Path:
        """Downloads that can be had again."""
        return self.home / "cache"

    @cached_property
    def index(self) -> Path:
        """Generations of the index and the pointer to the current one."""
        return self.home / "index"
