"""The 24 classes of the embedded data set: 8 families of 3 look-alikes, and how often each occurs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ShapeClass:
    """One class: its family, what it looks like, and in how many of 1,000 training images it occurs."""

    family: str
    texture: str
    colour: str
    shape: str
    images: int

    @property
    def name(self) -> str:
        """Return for example ``"striped blue disc"``."""
        words = (self.colour, self.shape) if self.texture == "plain" else (self.texture, self.colour, self.shape)
        return " ".join(words)


# Members of a family differ in one attribute only, and each family has a frequent, a common and a rare one: a
# classifier that follows the class frequencies calls the rare by the name of the frequent. Most textures and
# colours of rare classes are frequent in another family, so a network meets them often enough to know them.
# Thirds, about as in LVIS v1 (405 f, 461 c, 337 r).
CLASSES: tuple[ShapeClass, ...] = (
    ShapeClass("blue disc", "plain", "blue", "disc", 420),
    ShapeClass("blue disc", "striped", "blue", "disc", 80),
    ShapeClass("blue disc", "dotted", "blue", "disc", 7),
    ShapeClass("red square", "striped", "red", "square", 320),
    ShapeClass("red square", "plain", "red", "square", 90),
    ShapeClass("red square", "checkered", "red", "square", 5),
    ShapeClass("green triangle", "dotted", "green", "triangle", 270),
    ShapeClass("green triangle", "striped", "green", "triangle", 70),
    ShapeClass("green triangle", "plain", "green", "triangle", 9),
    ShapeClass("yellow cross", "checkered", "yellow", "cross", 220),
    ShapeClass("yellow cross", "ringed", "yellow", "cross", 95),
    ShapeClass("yellow cross", "plain", "yellow", "cross", 4),
    ShapeClass("star", "plain", "pink", "star", 190),
    ShapeClass("star", "plain", "white", "star", 75),
    ShapeClass("star", "plain", "yellow", "star", 8),
    ShapeClass("ringed hexagon", "ringed", "purple", "hexagon", 170),
    ShapeClass("ringed hexagon", "ringed", "lime", "hexagon", 85),
    ShapeClass("ringed hexagon", "ringed", "blue", "hexagon", 6),
    ShapeClass("teal flower", "plain", "teal", "quatrefoil", 150),
    ShapeClass("teal flower", "plain", "teal", "trefoil", 60),
    ShapeClass("teal flower", "plain", "teal", "sixfoil", 10),
    ShapeClass("orange arc", "plain", "orange", "ring", 135),
    ShapeClass("orange arc", "plain", "orange", "crescent", 50),
    ShapeClass("orange arc", "plain", "orange", "horseshoe", 3),
)
