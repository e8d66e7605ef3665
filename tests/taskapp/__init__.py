"""An ordinary app with tasks, installed in the tests' projects."""
