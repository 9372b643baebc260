"""The pipeline, told as stories in virtual time: records in, what arrived, what is in the DLQ, what is committable."""
