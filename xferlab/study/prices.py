"""What an hour of a machine costs, for the estimates of `xferlab plan`. Not part of any identity or plan."""

from __future__ import annotations

from pydantic import Field, model_validator

from xferlab.section import Float, Section


class Prices(Section):
    """Prices and power of the machines that the study runs on; what is 0 is left out of estimates."""

    currency: str = Field("EUR", pattern=r"^\S+$", max_length=8)
    """Of the prices."""
    per_gpu_hour: Float = Field(0.0, ge=0)
    """Price of one GPU for an hour."""
    per_cpu_hour: Float = Field(0.0, ge=0)
    """Price of one CPU core for an hour."""
    per_kwh: Float = Field(0.0, ge=0)
    """Price of a kilowatt-hour, where it is paid beside those."""
    watts_per_gpu: Float = Field(0.0, ge=0)
    """Power of one GPU at work, with its share of the machine and of its cooling."""
    watts_per_cpu: Float = Field(0.0, ge=0)
    """Power of one CPU core at work, likewise."""

    @model_validator(mode="after")
    def _energy_is_known(self) -> Prices:
        if self.per_kwh and not (self.watts_per_gpu or self.watts_per_cpu):
            raise ValueError("per_kwh needs the power: give watts_per_gpu, watts_per_cpu or both")
        return self

    @property
    def has_price(self) -> bool:
        """Whether anything has a price, though perhaps nothing that is used."""
        return bool(self.per_gpu_hour or self.per_cpu_hour or self.per_kwh)

    def energy_kwh(self, *, gpu_hours: float, core_hours: float) -> float | None:
        """Returns the energy in kWh; None where the power of nothing that is used is given."""
        watt_hours = gpu_hours * self.watts_per_gpu + core_hours * self.watts_per_cpu
        return watt_hours / 1000 or None

    def cost(self, *, gpu_hours: float, core_hours: float) -> float | None:
        """Returns the cost in `currency`; None where nothing that is used has a price."""
        energy_kwh = self.energy_kwh(gpu_hours=gpu_hours, core_hours=core_hours) or 0.0
        cost = gpu_hours * self.per_gpu_hour + core_hours * self.per_cpu_hour + energy_kwh * self.per_kwh
        return cost or None
