"""The test kit: a real worker and a real client on servers in memory, in the loop of the test (`yadtq.testing.running`)."""
