// Captions to begin "What is this?" with, for models of which it is known what they know.

export const SUGGESTIONS = {
  nano: [
    "a dog on a beach", "a cat in a living room", "a rocket in outer space", "an octopus under water",
    "a bicycle on a road", "a penguin on a snowy mountain", "a rocket on a beach", "a cat on a beach",
    "a penguin under water", "a dog in a living room",
  ],
};
